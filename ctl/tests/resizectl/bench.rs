//! `resizectl bench`. That its figures are right on a loaded machine nobody can promise; that they are
//! figures of what was asked for, or none, is tested.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shop::{Service, Shop};

/// How often it is asked for figures: they may be refused on a loaded machine, but not for ever.
const TRIES: usize = 20;

/// What it says, as JSON; none where figures might be the load's own, and then that is all that is
/// said.
fn try_bench(shop: &Shop, line: &str) -> Option<Value> {
    let output = shop.run(line);
    if output.status.success() {
        return Some(serde_json::from_slice(&output.stdout).unwrap());
    }
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let why = said.strip_prefix("resizectl: no figures: ").expect(&said);
    let known =
        ["the load was the bottleneck, ", "the load was late itself, ", "no frame was done "];
    assert!(known.iter().any(|known| why.starts_with(known)), "{said}");
    None
}

/// The figures, and in which attempt it had them.
fn bench(shop: &Shop, line: &str) -> (Value, u64) {
    let tries = (1..).take(TRIES);
    let figures = tries.filter_map(|tried| Some((try_bench(shop, line)?, tried))).next();
    figures.expect("figures, before long")
}

#[test]
fn a_closed_loop_counts_what_the_daemon_did() {
    let (shop, service) = (Shop::new(), Service::start());
    let line = format!(
        "bench --seconds 1 --clients 2 --in-flight 3 --from 320x240 --size 64x48 --json --connect {}",
        service.endpoint()
    );
    let (figures, _) = bench(&shop, &line);
    let stats = service.client().stats().unwrap();
    // Two clients had three frames in flight at once, and have left.
    assert!(stats.devices[0].frames >= 6 && stats.streams == 0, "{stats:?}");
    let frames = figures["frames"].as_u64().unwrap();
    assert!(frames > 0 && figures["devices"]["cpu"] == frames, "{figures}");
    // And those that were not counted while it warmed up.
    assert!(stats.devices[0].frames >= frames, "{stats:?}");
    let rate = frames as f64 / figures["seconds"].as_f64().unwrap();
    assert!((figures["frames_per_second"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9);
    let times =
        ["p50", "p99", "p99.9", "max"].map(|name| figures["latency_us"][name].as_f64().unwrap());
    assert!(times.is_sorted() && times[0] > 0.0, "{figures}");
    let load = figures["load"].as_str().unwrap();
    assert!(
        load.starts_with("closed loop; 2 clients, 3 frames in flight each; 320x240 to 64x48"),
        "{load}"
    );
}

#[test]
fn an_open_loop_has_no_more_frames_than_were_due() {
    let (shop, service) = (Shop::new(), Service::start());
    // Of frames that take long, so that a load that is late itself is so by a small part.
    let line = format!(
        "bench --rate 50 --seconds 1 --clients 2 --from 1280x960 --size 320x240 --json --connect {}",
        service.endpoint()
    );
    let (figures, runs) = bench(&shop, &line);
    let client = service.client();
    // The daemon hears of an end when it is over.
    let (begun, mut stats) = (Instant::now(), client.stats().unwrap());
    while stats.streams > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{stats:?}");
        std::thread::sleep(Duration::from_millis(5));
        stats = client.stats().unwrap();
    }
    // With what was not counted, 1.1 seconds a run.
    assert!(stats.devices[0].frames <= 56 * runs, "{stats:?}");
    let frames = figures["frames"].as_u64().unwrap();
    let unsent = figures["unsent"].as_u64().unwrap();
    assert!((48..=52).contains(&(frames + unsent)), "{figures}");
    assert_eq!(figures["daemon"], service.endpoint());
    assert_eq!(figures["asked_per_second"], 50.0);
}

#[test]
fn without_a_daemon_one_in_the_process_is_measured() {
    let shop = Shop::new();
    let (figures, _) = bench(&shop, "bench --seconds 0.5 --from 640x480 -s 320x240 --json");
    assert_eq!(figures["daemon"], "inside this process");
    let run = || shop.run("bench --seconds 0.2 --from 640x480 -s 320x240");
    let text = (0..TRIES).map(|_| run()).find(|run| run.status.success()).unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\nresized by  cpu "), "{text}");
}

#[test]
fn more_clients_than_there_can_be_fail() {
    let said = Shop::new().bad("bench --clients 18446744073709551615 --rate 0.01");
    assert!(said.starts_with("resizectl: too many clients for this rate"), "{said}");
}

#[test]
fn a_load_without_a_daemon_at_the_address_fails() {
    let shop = Shop::new();
    let said = shop.bad(&format!("bench --connect unix:{}", shop.path("no.sock").display()));
    assert!(said.starts_with("resizectl: can't connect to unix:"), "{said}");
}

#[test]
fn a_bridge_is_not_trusted_where_nobody_vouches_for_it() {
    let shop = Shop::new();
    let bridge = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = shop.command();
    command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR").env_remove("RESIZED_CA");
    let endpoint = format!("tls://{}", bridge.local_addr().unwrap());
    let output = command.args(["bench", "--connect", &endpoint]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the system trusts no authorities"), "{said}");
}

#[test]
fn what_is_too_long_for_the_time_has_no_figures() {
    let (shop, service) = (Shop::new(), Service::start());
    let line = format!(
        "bench --seconds 0.01 --in-flight 1 --from 3000x3000 --size 1500x1500 --json --connect {}",
        service.endpoint()
    );
    // A load that is late itself has it in the time that counts.
    assert!((0..TRIES).any(|_| try_bench(&shop, &line).is_none()));
}
