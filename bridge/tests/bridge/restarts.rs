//! Bridges and daemons that go away cost remote clients a pause, no frame.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use resized_client::{Client, Error, PixelFormat, Stream, StreamSpec};

use crate::support::{Bridge, Local, bounded, resized, spec, until};

/// Clients that have frames resized without end, by `resize` of a stream and a seed, while `act` is
/// done; every frame is what it was before.
pub(crate) fn under_load(
    local: &mut Local,
    bridge: &mut Bridge,
    spec: StreamSpec,
    resize: fn(&Stream, u32) -> Result<Vec<u8>, Error>,
    act: impl Fn(&mut Local, &mut Bridge),
) {
    const CLIENTS: usize = 4;
    let stream = bridge.client().open(&spec).unwrap();
    let expected: Vec<_> = (0..5).map(|seed| resize(&stream, seed).unwrap()).collect();
    drop(stream);
    let (over, rounds) = (AtomicBool::new(false), [const { AtomicU32::new(0) }; CLIENTS]);
    let endpoint = bridge.endpoint();
    thread::scope(|scope| {
        for rounds in &rounds {
            let (over, expected, endpoint) = (&over, &expected, &endpoint);
            scope.spawn(move || {
                let stream = Client::connect(endpoint).unwrap().open(&spec).unwrap();
                let mut seeds = (0..5).cycle();
                while !over.load(Ordering::Relaxed) {
                    let seed = seeds.next().unwrap();
                    assert_eq!(resize(&stream, seed).unwrap(), expected[seed as usize]);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let everybody_gets_on = || {
            let before = rounds.each_ref().map(|rounds| rounds.load(Ordering::Relaxed));
            until("everybody gets on", || {
                rounds
                    .iter()
                    .zip(before)
                    .all(|(now, before)| now.load(Ordering::Relaxed) > before + 3)
            });
        };
        everybody_gets_on();
        for _ in 0..3 {
            act(local, bridge);
            everybody_gets_on();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn bridges_that_are_killed_cost_no_frame() {
    bounded(|| {
        let mut local = Local::start();
        let mut bridge = Bridge::start(&local, &[]);
        let spec = spec(PixelFormat::I420, 3);
        under_load(&mut local, &mut bridge, spec, resized, |_, bridge| {
            bridge.kill();
            bridge.start_again();
        });
    });
}

#[test]
fn daemons_that_are_replaced_cost_no_frame() {
    bounded(|| {
        let mut local = Local::start();
        let mut bridge = Bridge::start(&local, &[]);
        let spec = spec(PixelFormat::I420, 3);
        under_load(&mut local, &mut bridge, spec, resized, |local, _| {
            local.stop();
            local.start_again();
        });
    });
}
