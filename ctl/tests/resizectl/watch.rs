//! `resizectl status` and `top`.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use resized_client::{Extent, FrameSpec, PixelFormat, StreamSpec};
use serde_json::Value;

use crate::shop::{Service, Shop};

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
                stream.loan().unwrap().submit().unwrap().wait().unwrap();
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
        stream.loan().unwrap().submit().unwrap().wait().unwrap();
    }
    let json = shop.good(&format!("status --json --connect {}", service.endpoint()));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["devices"][0]["frames"], 5);
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
    assert!(text.starts_with(&service.endpoint()) && text.contains("streams 1"), "{text}");
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

#[test]
fn top_gives_the_terminal_back_when_it_is_told_to_end() {
    const TAKES: &[u8] = b"\x1b[?1049h";
    const GIVES_BACK: &[u8] = b"\x1b[?1049l";
    let (shop, service) = (Shop::new(), Service::start());
    // A terminal of its own, whose name does not matter.
    let mut command = Command::new("script");
    let program = env!("CARGO_BIN_EXE_resizectl");
    let line = format!("echo $$ > pid; exec {program} top --connect {}", service.endpoint());
    command.args(["-qec", &line, "/dev/null"]).current_dir(shop.path("."));
    command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = command.spawn().expect("the tool script is needed to have a terminal");
    let (mut seen, mut told) = (Vec::new(), false);
    let mut screen = run.stdout.take().unwrap();
    let mut more = [0; 4096];
    loop {
        let read = screen.read(&mut more).unwrap();
        if read == 0 {
            break;
        }
        seen.extend_from_slice(&more[..read]);
        if !told && seen.windows(TAKES.len()).any(|bytes| bytes == TAKES) {
            told = true;
            let pid = fs::read_to_string(shop.path("pid")).unwrap();
            assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
        }
    }
    assert!(told && seen.windows(GIVES_BACK.len()).any(|bytes| bytes == GIVES_BACK));
    assert_eq!(run.wait().unwrap().code(), Some(128 + 15));
}
