//! `resizectl status` and `top`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use resized_client::{Extent, FrameSpec, PixelFormat, StreamSpec};
use resized_protocol::VERSION;
use serde_json::Value;

use crate::shop::{DEADLINE, Service, Shop, mute};

fn spec() -> StreamSpec {
    StreamSpec::new(FrameSpec::new(PixelFormat::I420, Extent::new(128, 96)), Extent::new(64, 48))
}

#[test]
fn figures_of_a_daemon_at_work_are_told() {
    let (shop, service) = (Shop::new(), Service::start());
    let client = service.client();
    let (stream, idle) = (client.open(&spec()).unwrap(), client.open(&spec()).unwrap());
    let over = AtomicBool::new(false);
    let (text, json) = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
            }
        });
        let once = |options: &str| {
            shop.good(&format!(
                "top --once --interval 0.3 {options} --connect {}",
                service.endpoint()
            ))
        };
        let told = (once(""), once("--json"));
        over.store(true, Ordering::Relaxed);
        told
    });
    drop(idle);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(&service.endpoint()), "{text}");
    assert!(lines[0].contains("clients 2   streams 2   rings "), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("cpu ")), "{text}");
    let streams = lines.iter().filter(|line| line.trim_start().starts_with('#')).count();
    assert_eq!(streams, 2, "{text}");

    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["seconds"].as_f64().unwrap() >= 0.3);
    let device = &json["devices"][0];
    assert_eq!(device["name"], "cpu");
    assert!(device["frames_per_second"].as_f64().unwrap() > 0.0, "{json}");
    assert!(device["busy_lanes"].as_f64().unwrap() > 0.0, "{json}");
    assert!(device["work_us"]["p99"].as_u64() >= device["work_us"]["p50"].as_u64());
    // The busiest first; the other is who asks.
    let busy = &json["clients"][0];
    assert!(busy["frames_per_second"].as_f64().unwrap() > 0.0, "{json}");
    let [first, second] = &busy["streams"].as_array().unwrap()[..] else { panic!("{json}") };
    assert!(first["frames"].as_u64().unwrap() > 0 && second["frames"] == 0, "{json}");
    assert_eq!(second["frames_per_second"], 0.0);
    assert_eq!(second["wait_us"]["p50"], Value::Null);
    assert_eq!(json["streams"], 2);
}

#[test]
fn status_tells_what_was_done_since_the_start() {
    let (shop, service) = (Shop::new(), Service::start());
    let client = service.client();
    let stream = client.open(&spec()).unwrap();
    for _ in 0..5 {
        drop(stream.loan().unwrap().submit().unwrap().wait().unwrap());
    }
    let json = shop.good(&format!("status --json --connect {}", service.endpoint()));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["devices"][0]["frames"], 5);
    assert_eq!(json["protocol"], VERSION);
    assert_eq!(
        (&json["seconds"], &json["devices"][0]["frames_per_second"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(json["clients"][0]["streams"][0]["slots"], spec().slots);
    // By the environment too.
    let mut command = shop.command();
    let output =
        command.arg("status").env("RESIZED_ENDPOINT", service.endpoint()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let head = format!("{}   protocol {VERSION}   clients ", service.endpoint());
    assert!(text.starts_with(&head) && text.contains("streams 1"), "{text}");
    // Before an upgrade the new program is asked the same.
    assert!(shop.good("--version").ends_with(&format!(" (protocol {VERSION})\n")));
}

#[test]
fn who_does_not_answer_is_named() {
    let shop = Shop::new();
    let said = shop.bad("status");
    assert!(
        said.contains("no resized daemon answers at") && said.contains("systemctl enable"),
        "{said}"
    );
    let place = format!("unix:{}", shop.path("no.sock").display());
    for command in ["status", "top --once"] {
        let said = shop.bad(&format!("{command} --connect {place}"));
        assert!(said.starts_with(&format!("resizectl: can't connect to {place}")), "{said}");
    }
    // Somebody else's socket: accepts, and is gone before it says anything.
    let listener = UnixListener::bind(shop.path("other.sock")).unwrap();
    let other = thread::spawn(move || drop(listener.accept().unwrap()));
    let said = shop.bad(&format!("status --connect unix:{}", shop.path("other.sock").display()));
    assert!(said.starts_with("resizectl: "), "{said}");
    other.join().unwrap();
}

#[test]
fn top_says_that_it_needs_a_terminal() {
    let (shop, service) = (Shop::new(), Service::start());
    let said = shop.bad(&format!("top --connect {}", service.endpoint()));
    assert!(said.contains("--once"), "{said}");
}

const TAKES: &[u8] = b"\x1b[?1049h";
const GIVES_BACK: &[u8] = b"\x1b[?1049l";

/// Runs `top` on a terminal of its own, and acts each time that the next of these is shown: on the
/// process, and on who types. How it ended. It must have given the terminal back.
fn on_a_terminal(
    shop: &Shop,
    endpoint: &str,
    mut shown: &[&[u8]],
    mut act: impl FnMut(&str, &mut ChildStdin),
) -> Option<i32> {
    // The tool script is needed to have one. The terminal's name does not matter, but where it has no size nothing is shown.
    let mut command = Command::new("timeout");
    command.args(["--foreground", "-sKILL", DEADLINE, "script"]);
    let program = env!("CARGO_BIN_EXE_resizectl");
    let line =
        format!("stty rows 24 cols 80; echo $$ > pid; exec {program} top --connect {endpoint}");
    command.args(["-qec", &line, "/dev/null"]).current_dir(shop.path("."));
    command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = command.spawn().unwrap();
    let (mut seen, mut before) = (Vec::new(), 0);
    let (mut keys, mut screen) = (run.stdin.take().unwrap(), run.stdout.take().unwrap());
    let has = |seen: &[u8], text: &[u8]| seen.windows(text.len()).any(|bytes| bytes == text);
    let mut more = [0; 4096];
    loop {
        let read = screen.read(&mut more).unwrap();
        if read == 0 {
            break;
        }
        seen.extend_from_slice(&more[..read]);
        if let Some((next, rest)) = shown.split_first()
            && has(&seen[before..], next)
        {
            (shown, before) = (rest, seen.len());
            act(fs::read_to_string(shop.path("pid")).unwrap().trim(), &mut keys);
        }
    }
    let text = String::from_utf8_lossy(&seen);
    assert!(shown.is_empty() && has(&seen, TAKES) && has(&seen, GIVES_BACK), "{text}");
    run.wait().unwrap().code()
}

#[test]
fn top_gives_the_terminal_back_when_it_is_told_to_end() {
    let (shop, service) = (Shop::new(), Service::start());
    let code = on_a_terminal(&shop, &service.endpoint(), &[TAKES], |pid, _| {
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
    });
    assert_eq!(code, Some(128 + 15));
}

#[test]
fn top_can_be_left_while_the_daemon_does_not_answer() {
    let shop = Shop::new();
    let endpoint = mute(&shop, "cpu");
    let code = on_a_terminal(&shop, &endpoint, &[b"no answer for"], |_, keys| {
        keys.write_all(b"q").unwrap();
    });
    assert_eq!(code, Some(0));
    let code = on_a_terminal(&shop, &endpoint, &[TAKES], |pid, _| {
        assert!(Command::new("kill").args(["-INT", pid]).status().unwrap().success());
    });
    assert_eq!(code, Some(128 + 2));
}

#[test]
fn top_goes_on_when_its_daemon_is_replaced() {
    let (shop, mut service) = (Shop::new(), Service::start());
    let endpoint = service.endpoint();
    let (mut step, mut stream) = (0, None);
    // The row of a stream has such a sign before its number.
    let shown: [&[u8]; 3] = [b"cpu", b"lost, looking for it", b"#"];
    let code = on_a_terminal(&shop, &endpoint, &shown, |_, keys| {
        step += 1;
        match step {
            1 => service.stop(),
            2 => {
                service.start_again();
                stream = Some(service.client().open(&spec()).unwrap());
            }
            _ => keys.write_all(b"q").unwrap(),
        }
    });
    assert_eq!((code, stream.is_some()), (Some(0), true));
}
