//! A daemon that goes and comes back while videos are decoded into its slots.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use resized::{Devices, Listener, Options, Peers, Server};

use crate::bench::{Bench, frame_names};

fn daemon(socket: &Path) -> Server {
    let listener = Listener::bind(socket, Peers::Owner).unwrap();
    let options = Options { devices: Devices::Cpu, ..Options::default() };
    Server::at(listener, options).unwrap()
}

#[test]
fn a_daemon_that_comes_back_costs_no_picture() {
    let (bench, disturbed) = (Bench::new(), Bench::new());
    let options = "-frames:v 120 -c:v libx264 -preset veryfast -bf 3 -refs 8 -pix_fmt yuv420p";
    let clip = bench.clip("clip.mkv", "testsrc2=size=322x242", options);
    let run = |bench: &Bench| {
        let mut command = bench.command(&[&clip]);
        command.args(["-n", "2", "-m", "0", "-s", "480x360", "-q"]);
        command
    };
    assert!(run(&bench).status().unwrap().success());

    let socket = disturbed.path("resized.sock");
    let mut server = daemon(&socket);
    let endpoint = format!("unix:{}", socket.display());
    let mut program = run(&disturbed).args(["--connect", &endpoint]).spawn().unwrap();
    for number in [10, 40, 70] {
        let picture = disturbed.path(&format!("out/vid-instance1/Frame{number:05}.jpg"));
        let begun = Instant::now();
        while !picture.exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{number}");
            assert!(program.try_wait().unwrap().is_none_or(|status| status.success()), "{number}");
            thread::sleep(Duration::from_millis(2));
        }
        server.stop().unwrap();
        server = daemon(&socket);
    }
    assert!(program.wait().unwrap().success());
    server.stop().unwrap();
    for instance in [1, 2] {
        assert_eq!(disturbed.names(instance), frame_names(120));
        for name in frame_names(120) {
            let [calm, shaken] = [&bench, &disturbed].map(|bench| {
                fs::read(bench.path(&format!("out/vid-instance{instance}/{name}"))).unwrap()
            });
            assert!(calm == shaken, "{name} of instance {instance}");
        }
    }
}
