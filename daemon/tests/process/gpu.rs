//! A daemon with a GPU: real clients, the real probe, faults, and what is left behind. On llvmpipe
//! where there is nothing better, the validation layer looking on.

use std::process::{Command, Stdio};

use resized::{Devices, Options, Server};
use resized_client::{Client, DeviceStats, StreamSpec};
use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
use resized_protocol::message::Filter;

use crate::oracle::{self, Checked};
use crate::skip::skip;
use crate::support::{Daemon, Folder, apart, bounded, until};

/// The daemon's answer to the question what it would use.
fn explained(devices: &str) -> String {
    explained_with(devices, None)
}

/// The same, with frames brought there that way.
fn explained_with(devices: &str, transfer: Option<&str>) -> String {
    let mut explain = Command::new(env!("CARGO_BIN_EXE_resized"));
    let explain = explain.args(["--explain", "--devices", devices]).stderr(Stdio::null());
    let explain =
        apart(explain).envs(transfer.map(|transfer| ("RESIZED_VULKAN_TRANSFER", transfer)));
    String::from_utf8(explain.output().unwrap().stdout).unwrap()
}

/// The choice of devices with which tests run; `None`: this machine has no Vulkan.
fn gpu() -> Option<&'static str> {
    for devices in ["vulkan", "vulkan:llvmpipe"] {
        if explained(devices).lines().skip(1).any(|line| line.contains(": used")) {
            return Some(devices);
        }
    }
    skip("vulkan", "there is no GPU and no llvmpipe");
    None
}

/// Streams whose frames every device makes alike, bit for bit.
fn exact(n: usize) -> StreamSpec {
    let format = PixelFormat::EIGHT_BIT[n % 7];
    let sizes = [((320, 180), (128, 72)), ((99, 57), (61, 40)), ((64, 48), (160, 100))];
    let (from, to) = sizes[n % 3];
    let source = FrameSpec::new(format, Extent::new(from.0, from.1));
    let filter = Filter::ALL[n % Filter::ALL.len()];
    StreamSpec { filter, ..StreamSpec::new(source, Extent::new(to.0, to.1)) }
}

fn start(devices: &str, settings: &[(&str, &str)]) -> Daemon {
    let validation = ("RESIZED_VULKAN_VALIDATION", "1");
    let settings: Vec<_> = settings.iter().copied().chain([validation]).collect();
    Daemon::start_with(&["--devices", devices], &settings)
}

/// Figures of the cores, and of all GPUs as of one.
fn figures(client: &Client) -> [DeviceStats; 2] {
    let mut devices = client.stats().unwrap().devices.into_iter();
    let (cores, mut gpu) = (devices.next().unwrap(), devices.next().unwrap());
    for other in devices {
        gpu.frames += other.frames;
        gpu.failed += other.failed;
        gpu.copied_bytes += other.copied_bytes;
    }
    [cores, gpu]
}

#[track_caller]
fn assert_valid(daemon: &Daemon) {
    let log = daemon.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("validation")).collect();
    let Some((first, found)) = said.split_first() else { panic!("nobody was to look on") };
    if first.ends_with("there is no validation layer") {
        return skip("validation", "there is no validation layer");
    }
    assert!(first.ends_with("the validation layer looks on"), "{first}");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn rounds(client: &Client, streams: usize, frames: usize) {
    let streams: Vec<_> = (0..streams).map(|n| Checked::open(client, exact(n), 2)).collect();
    for n in 0..frames {
        let pendings: Vec<_> = streams.iter().map(|stream| stream.submit(n).unwrap()).collect();
        for (stream, pending) in streams.iter().zip(pendings) {
            stream.check(n, &pending.wait().unwrap());
        }
    }
}

#[test]
fn a_gpu_serves_clients_whichever_way_frames_reach_it() {
    bounded(|| {
        let Some(devices) = gpu() else { return };
        for transfer in ["direct", "copied", "both-ways", "staged"] {
            let daemon = start(devices, &[("RESIZED_VULKAN_TRANSFER", transfer)]);
            let client = daemon.client();
            rounds(&client, 7, 6);
            let [cores, gpu] = figures(&client);
            assert_eq!((cores.frames, gpu.frames, gpu.failed), (0, 42, 0), "{transfer}");
            let copied = transfer != "direct";
            assert_eq!(gpu.copied_bytes > 0, copied, "{transfer}");
            let stream = Checked::open(&client, exact(0), 1);
            stream.round_trip(0);
            let ours = client.clients().unwrap()[0].client;
            let of_stream = &client.streams_of(ours).unwrap()[0];
            assert_eq!((of_stream.copied_bytes > 0, of_stream.failed), (copied, 0), "{transfer}");
            let explained = explained_with(devices, Some(transfer));
            assert_eq!(explained.contains("staged"), transfer == "staged", "{explained}");
            assert_valid(&daemon);
        }
    });
}

/// Cores and a GPU take from one queue: whole bursts of frames of many streams are right whoever did them, both
/// have their share, and streams that end meanwhile harm nobody.
#[test]
fn cores_and_a_gpu_share_the_frames_of_all_clients() {
    bounded(|| {
        if gpu().is_none() {
            return;
        }
        let daemon = start("auto", &[("RESIZED_VULKAN_POSING", "1")]);
        let client = daemon.client();
        // A posing GPU is slower than the cores: it takes what would wait longer for them.
        let twelve = |n| StreamSpec { slots: 12, ..exact(n) };
        let streams: Vec<_> = (0..8).map(|n| Checked::open(&client, twelve(n), 2)).collect();
        let shares = || figures(&client).map(|device| device.frames);
        let begun = std::time::Instant::now();
        let mut n = 0;
        while n < 10 || shares().contains(&0) {
            assert!(begun.elapsed().as_secs() < 60, "one does nothing: {:?}", shares());
            let other = daemon.client();
            let ends = other.open(&StreamSpec { slots: 4, ..exact(n) }).unwrap();
            let slots = (0..4).map(|_| ends.loan().unwrap()).collect();
            let forgotten = ends.submit_all(slots).unwrap();
            let burst = |_| streams.iter().map(|stream| (stream, stream.submit(n).unwrap()));
            let pendings: Vec<_> = (0..12).flat_map(burst).collect();
            drop((other, forgotten));
            for (stream, pending) in pendings {
                stream.check(n, &pending.wait().unwrap());
            }
            n += 1;
        }
        let [cores, gpu] = figures(&client);
        assert_eq!((cores.failed, gpu.failed), (0, 0), "{cores:?} {gpu:?}");
        assert!(cores.frames + gpu.frames >= 96 * n as u64, "{cores:?} {gpu:?}");
        assert_valid(&daemon);
    });
}

#[test]
fn frames_at_which_a_gpu_fails_come_back_right_from_the_cores() {
    frames_come_back_right("lost");
}

#[test]
fn frames_that_a_gpu_does_not_answer_come_back_right_from_the_cores() {
    frames_come_back_right("timed-out");
}

/// Whatever it fails of, it is out of service for a while, and comes back.
fn frames_come_back_right(fault: &'static str) {
    bounded(move || {
        let Some(devices) = gpu() else { return };
        let daemon = start(devices, &[("RESIZED_VULKAN_FAULT", &format!("{fault}:5"))]);
        let client = daemon.client();
        until("it has failed again, after it came back", || {
            rounds(&client, 7, 4);
            let [cores, gpu] = figures(&client);
            assert_eq!(cores.failed, 0);
            let is_back = daemon.log().contains("back in service");
            is_back && gpu.failed >= 2 && gpu.frames >= 5 && cores.frames > 0
        });
        assert_valid(&daemon);
    });
}

/// Its frames come from the cores; the GPU itself is as good as before.
#[test]
fn streams_for_which_a_gpu_has_no_memory_are_done_by_the_cores() {
    bounded(|| {
        let Some(devices) = gpu() else { return };
        let daemon = start(devices, &[("RESIZED_VULKAN_FAULT", "memory:5")]);
        let client = daemon.client();
        for _ in 0..3 {
            rounds(&client, 7, 4);
        }
        let [cores, gpu] = figures(&client);
        assert!(gpu.failed >= 2 && gpu.frames >= 5 && cores.frames > 0, "{cores:?} {gpu:?}");
        assert_eq!((cores.failed, cores.frames + gpu.frames), (0, 3 * 7 * 4));
        assert!(!daemon.log().contains("back in service"), "it was never out of it");
        assert_valid(&daemon);
    });
}

#[test]
fn what_a_gpu_leaves_to_the_cores_is_done_by_them() {
    bounded(|| {
        let Some(devices) = gpu() else { return };
        let daemon = start(devices, &[]);
        let client = daemon.client();
        let stream = client.open(&exact(0)).unwrap();
        // It takes what it does not leave.
        drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        let [cores, gpu] = figures(&client);
        assert_eq!((cores.frames, gpu.frames), (0, 1));
        let crop = resized_client::Crop { left: 8.0, top: 8.0, width: 64.0, height: 32.0 };
        for _ in 0..3 {
            let mut slot = stream.loan().unwrap();
            slot.set_crop(crop).unwrap();
            drop(slot.submit().unwrap().wait().unwrap());
        }
        let [cores, gpu] = figures(&client);
        assert_eq!((cores.frames, gpu.frames, gpu.failed), (3, 1, 0));
        assert_valid(&daemon);
    });
}

#[test]
fn streams_that_end_while_a_gpu_is_busy_harm_nobody() {
    bounded(|| {
        let Some(devices) = gpu() else { return };
        let daemon = start(devices, &[]);
        let client = daemon.client();
        let (_, descriptors) = daemon.at_rest(&client);
        for n in 0..40 {
            let other = daemon.client();
            let stream = other.open(&StreamSpec { slots: 6, ..exact(n) }).unwrap();
            let slots = (0..6).map(|_| stream.loan().unwrap()).collect();
            let pendings = stream.submit_all(slots).unwrap();
            if n.is_multiple_of(2) {
                // The connection goes first, the stream with it.
                drop(other);
            }
            pendings.into_iter().take(n % 4).for_each(|pending| drop(pending.wait()));
        }
        rounds(&client, 7, 2);
        daemon.await_rest(&client, descriptors);
        let [cores, gpu] = figures(&client);
        assert!(gpu.frames > 14 && (cores.frames, gpu.failed) == (0, 0), "{cores:?} {gpu:?}");
        assert_valid(&daemon);
    });
}

#[test]
fn a_thousand_streams_leave_nothing_on_a_gpu() {
    bounded(|| {
        let Some(devices) = gpu() else { return };
        let daemon = start(devices, &[]);
        let client = daemon.client();
        let turn = |n: usize| {
            let stream = client.open(&StreamSpec { slots: 2, ..exact(n) }).unwrap();
            drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
        };
        (0..150).for_each(turn);
        until("none is open", || client.stats().unwrap().ring_bytes == 0);
        let (before, descriptors) = (daemon.anonymous_kib(), daemon.descriptors());
        (0..1000).for_each(turn);
        daemon.await_rest(&client, descriptors);
        let grown = daemon.anonymous_kib().saturating_sub(before);
        // The allocator keeps some; a buffer of each would be more than 200 MiB.
        assert!(grown < 6 * 1024, "{grown} KiB more");
        let [cores, gpu] = figures(&client);
        assert_eq!((cores.frames, gpu.frames, gpu.failed), (0, 1150, 0));
        assert_valid(&daemon);
    });
}

#[test]
fn what_is_used_and_what_is_not_is_explained() {
    let auto = explained("auto");
    assert!(auto.starts_with("cpu: used: "), "{auto}");
    let gpu = gpu();
    if gpu == Some("vulkan:llvmpipe") {
        let line = auto.lines().find(|line| line.starts_with("llvmpipe")).unwrap();
        assert!(line.contains("not used"), "{line}");
    }
    if gpu.is_some() {
        assert!(explained("vulkan:no such GPU").contains("it was not asked for"));
    }
    // A machine without any: no error, but for who insists.
    let mut auto = Command::new(env!("CARGO_BIN_EXE_resized"));
    apart(&mut auto).env("VK_ICD_FILENAMES", "/nowhere").env("VK_DRIVER_FILES", "/nowhere");
    let explained = auto.arg("--explain").output().unwrap();
    assert!(explained.status.success());
    assert!(String::from_utf8_lossy(&explained.stdout).contains("vulkan: not used: "));
    let dir = Folder::new();
    let mut insists = crate::support::command(dir.path(), &["--devices", "vulkan:no such GPU"]);
    let refused = insists.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no GPU can be used"));
}

/// A driver that ends the process that tests it, whatever it does to it, costs the GPU and nothing
/// else.
#[test]
fn a_driver_that_crashes_its_self_test_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    bounded(|| {
        let dir = Folder::new();
        let program = |text: &str| {
            let path = dir.path().join(format!("program-{}", text.len()));
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let listed = "case $2 in list*) printf 'Broken GPU\\t\\n'; exit;; esac";
        for (program, reason) in [
            (program("kill -SEGV $$"), "signal: 11"),
            (program(&format!("{listed}; kill -ABRT $$")), "signal: 6"),
            (program(&format!("{listed}; echo it is on fire")), "it is on fire"),
            // It leaves a process behind that holds on to what it was to answer through; it does
            // not stop answering.
            (program("sleep 40 & kill -SEGV $$"), "signal: 11"),
            (program(&format!("{listed}; sleep 40 & echo it smokes")), "it smokes"),
            (program("exec yes"), "signal: 13"),
            ("/nowhere/resized".into(), "could not be started"),
        ] {
            let explained = resized::explain(&Devices::Auto, Some(&program));
            assert!(explained[0].used && !explained[1].used);
            assert!(explained[1].reason.contains(reason), "{}", explained[1]);
            let options =
                Options { devices: Devices::Auto, program: Some(program), ..Options::default() };
            let server = Server::embedded_with(options).unwrap();
            let client = Client::from_socket(server.connect().unwrap()).unwrap();
            assert_eq!(client.devices()[..], ["cpu"]);
            Checked::open(&client, oracle::mixed(2), 1).round_trip(0);
        }
    });
}
