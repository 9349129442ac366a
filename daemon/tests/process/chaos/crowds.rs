//! Many at once, or few with much to do: each has its part.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use resized_client::{Client, Filter, PixelFormat, StreamSpec};

use super::neighbour::{Scene, beside, median, nothing, row_of_frames, work_of};
use super::victims::{kill_all, processes};
use super::{ROW, length, raise_descriptor_limit, whole};
use crate::clients::{FEW, crowd, flooded};
use crate::oracle::{self, Checked};
use crate::support::{DEADLINE, Daemon, bounded_by};

#[test]
fn frames_that_look_small_and_are_not_cost_a_neighbour_nothing() {
    // Few pixels at both ends, many between: high and narrow from wide and flat.
    let strange = |scene: &Scene<'_>| {
        let client = scene.daemon.client();
        let mut longest = Duration::ZERO;
        let side = length(700, 4000);
        while scene.goes_on() {
            for (from, to) in [((side, 1), (1, side)), ((1, side), (side, 1)), ((3, 5), (side, 2))]
            {
                for filter in Filter::ALL {
                    let spec = oracle::spec(PixelFormat::Rgba, filter, from, to);
                    longest = longest.max(work_alone(&client, &spec));
                }
            }
        }
        longest
    };
    row_of_frames(&[], nothing, strange);
}

/// The least time that a frame of that stream takes alone; then come some at once.
fn work_alone(client: &Client, spec: &StreamSpec) -> Duration {
    let stream = client.open(&StreamSpec { slots: 4, ..*spec }).unwrap();
    let alone = || stream.loan().unwrap().submit().unwrap().wait().unwrap().receipt();
    let least = (0..3).map(|_| alone().worked).min().unwrap();
    let slots = (0..4).map(|_| stream.loan().unwrap()).collect();
    let pendings = stream.submit_all(slots).unwrap();
    pendings.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    least
}

#[test]
fn one_frame_at_a_time_goes_ahead_of_eight_that_flood() {
    const TURNS: usize = 9;
    let turn = Duration::from_millis(length(50, 500));
    let specs = vec![StreamSpec { slots: 1, ..flooded() }];
    beside(
        || Daemon::start(&[]),
        specs,
        move |daemon, neighbour| {
            let flooders = processes(daemon, FLOODS, 8);
            let signal = |signal| {
                flooders.iter().for_each(|flooder| flooder.signal(signal));
                thread::sleep(Duration::from_millis(50));
            };
            let client = daemon.client();
            // In turns, so that what else there is on the machine is in both.
            let part = median((0..length(1, TURNS)).map(|_| {
                signal(Signal::SIGSTOP);
                let frame = work_of(&client, &flooded());
                let alone = neighbour.measure(turn).percentile(50);
                signal(Signal::SIGCONT);
                let beside = neighbour.measure(turn).percentile(50);
                println!("p50 {alone:?} alone, {beside:?} beside 8 that flood; a frame {frame:?}");
                beside.as_secs_f64() / (3 * alone + frame).as_secs_f64()
            }));
            kill_all(flooders);
            println!("{part:.2} of three times alone and a frame (goal 1)");
            assert!(!whole() || part <= 1.0, "{part}");
        },
    );
}

/// Those who flood, many or few.
const FLOODS: &str = "clients::a_client_that_floods";

/// Few of whom have as much memory as a crowd of those.
const FLOODS_WIDELY: &str = "clients::a_client_of_few_that_floods";

/// Frames a second of so many processes that keep all slots of a stream in flight, and how even
/// their shares are: (sum x)^2 / (n sum x^2), Jain, Chiu and Hawe 1984. A neighbour that has a frame
/// now and then gets the right ones all along.
fn throughput(daemon: &Daemon, watcher: &Client, test: &str, count: usize) -> (f64, f64) {
    let neighbour = Checked::open(&daemon.client(), oracle::mixed(3), 3);
    let known: Vec<_> = watcher.clients().unwrap().iter().map(|client| client.client).collect();
    let processes = processes(daemon, test, count);
    let frames = || -> Vec<_> {
        let others = watcher.clients().unwrap().into_iter();
        let others = others.filter(|client| !known.contains(&client.client));
        others.map(|client| client.frames).collect()
    };
    assert_eq!(frames().len(), count);
    let (before, begun) = (frames(), Instant::now());
    let mut checked = 0;
    while begun.elapsed() < length(Duration::from_secs(1), Duration::from_secs(20)) {
        neighbour.round_trip(checked);
        checked += 1;
        thread::sleep(Duration::from_millis(10));
    }
    let (after, length) = (frames(), begun.elapsed());
    kill_all(processes);
    println!("{checked} frames of a neighbour beside {count}");
    let shares = before.iter().zip(&after).map(|(before, after)| (after - before) as f64);
    let (sum, squares) =
        shares.fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    (sum / length.as_secs_f64(), sum * sum / (count as f64 * squares))
}

/// In the whole suite: 256 processes get the same by Jain's index, 0.99, and together 85 % of what six
/// get whose rings take as much memory.
///
/// What two get is said beside that, and is not judged by: where a cache holds two clients' rings (41 MB; there
/// are caches of 300) and 256 clients' come from memory, a crowd gets much less, whoever resizes its frames
/// (docs/design/measured.md). Six with as much memory lack the same caches, so what a crowd loses beside them is
/// the daemon's doing.
///
/// The neighbour's time is not judged: where 16 or more take turns it waits for its own, as they do.
#[test]
fn many_processes_at_once_get_all_the_same() {
    bounded_by(length(DEADLINE, ROW), || {
        raise_descriptor_limit();
        let mut daemon = Daemon::start(&[]);
        let watcher = daemon.client();
        let (_, descriptors) = daemon.at_rest(&watcher);
        let throughput = |test, count| {
            let measured = throughput(&daemon, &watcher, test, count);
            daemon.await_rest(&watcher, descriptors);
            measured
        };
        let (two, _) = throughput(FLOODS, 2);
        let (few, _) = throughput(FLOODS_WIDELY, FEW);
        let (many, jain) = throughput(FLOODS, crowd());
        let kept = many / few;
        println!(
            "{}: {many:.0} frames/s, {:.1} % of what 2 get, {:.1} % of {FEW} with as much memory; Jain's index \
             {jain:.4} (goal 0.99)",
            crowd(),
            many / two * 100.0,
            kept * 100.0
        );
        assert!(daemon.process.0.try_wait().unwrap().is_none(), "the daemon died");
        assert!(two > 0.0 && few > 0.0 && many > 0.0);
        assert!(jain >= length(0.7, 0.99), "{jain}");
        assert!(kept >= length(0.0, 0.85), "{kept}");
    });
}
