//! `resizectl bench`. That its figures are right on a loaded machine nobody can promise; that they are figures of
//! what was asked for, or none, is tested.

use serde_json::Value;

use crate::shop::{Service, Shop};

/// The figures, or why there are none.
fn bench(shop: &Shop, line: &str) -> Result<Value, String> {
    let output = shop.run(line);
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("resizectl: no figures: "), "{said}");
    Err(said)
}

#[test]
fn a_closed_loop_counts_what_the_daemon_did() {
    let (shop, service) = (Shop::new(), Service::start());
    let line = format!(
        "bench --seconds 1 --clients 2 --in-flight 3 --from 320x240 --size 64x48 --json --connect {}",
        service.endpoint()
    );
    let Ok(figures) = bench(&shop, &line) else { return };
    let frames = figures["frames"].as_u64().unwrap();
    assert!(frames > 0 && figures["devices"]["cpu"] == frames, "{figures}");
    // More, by what was not counted while it warmed up.
    let stats = service.client().stats().unwrap();
    assert!(stats.devices[0].frames > frames && stats.streams == 0, "{stats:?}");
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
fn an_open_loop_has_as_many_frames_as_were_due() {
    let shop = Shop::new();
    let line = "bench --rate 50 --seconds 1 --clients 2 --from 320x240 --size 64x48 --json";
    let Ok(figures) = bench(&shop, line) else { return };
    let frames = figures["frames"].as_u64().unwrap();
    let unsent = figures["unsent"].as_u64().unwrap();
    assert!((48..=52).contains(&(frames + unsent)), "{figures}");
    assert_eq!(figures["daemon"], "inside this process");
    assert_eq!(figures["asked_per_second"], 50.0);
}

#[test]
fn a_daemon_that_can_not_keep_up_is_charged_for_all_that_waits() {
    let shop = Shop::new();
    // A second of work, or much of it, for a frame; two are due in a millisecond.
    let line = "bench --rate 2000 --seconds 0.5 --from 4000x4000 --size 3000x3000 --filter lanczos3 --json";
    let Ok(figures) = bench(&shop, line) else { return };
    let median = figures["latency_us"]["p50"].as_f64().unwrap();
    // Nearly all are never begun, and half of those were due in the first half of the run.
    assert!(median > 200_000.0 && figures["unsent"].as_u64().unwrap() > 500, "{figures}");
}

#[test]
fn a_load_without_a_daemon_at_the_address_fails() {
    let shop = Shop::new();
    let said = shop.bad(&format!("bench --connect unix:{}", shop.path("no.sock").display()));
    assert!(said.starts_with("resizectl: can't connect to unix:"), "{said}");
}
