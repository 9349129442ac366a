//! A service of three nodes, of which one is killed while streams and single pictures keep all of
//! them busy: what who uses it notices of that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::service::NATS_SERVICE_ERROR_CODE;
use async_nats::{Client as Nats, HeaderMap, StatusCode};
use futures_util::StreamExt;
use resized_client::{Client, Endpoint, Extent, FrameSpec, PixelFormat, StreamSpec};
use resized_pictures::{Desk, Limits, Settings};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};
use turbojpeg::Image;

use super::broker::Broker;
use super::nodes::{Node, joined};

const NODES: usize = 3;
const PICTURES: usize = 10_000;
const STREAMS: usize = 8;
/// Pictures that are asked for at the same time.
const CALLERS: usize = 8;
/// After which a caller asks for a picture again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Before who was told that a bridge is busy asks again.
const PAUSE: Duration = Duration::from_millis(5);
const SIZE: &str = "64x48";
/// Pictures and frames that differ.
const KINDS: usize = 16;

/// What is to be made, and what that is.
struct Work {
    pictures: Vec<Vec<u8>>,
    made: Vec<Vec<u8>>,
    frames: Vec<Vec<u8>>,
    resized: Vec<Vec<u8>>,
}

/// How the pictures went.
#[derive(Default)]
struct Tally {
    /// The next that nobody has asked for.
    next: AtomicUsize,
    done: AtomicUsize,
    again: AtomicUsize,
    /// Replies to who had one already.
    extra: AtomicUsize,
}

/// The row: every result is compared, and a wrong one is the end of it.
pub(crate) fn lost_node(folder: &Path) -> String {
    let broker = Broker::start();
    let mut nodes: Vec<_> = (0..NODES).map(|n| Node::start(folder, n, &broker)).collect();
    let runtime = Runtime::new().unwrap();
    let nats = runtime.block_on(async_nats::connect(broker.url())).unwrap();
    runtime.block_on(joined(&nats, NODES));
    let (work, tally) = (Arc::new(Work::new(&nodes[0].near)), Arc::new(Tally::default()));
    let (frames, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let endpoint = broker.endpoint();
    let begun = Instant::now();
    let (pauses, waits) = thread::scope(|scope| {
        let stream = || resize_until(&endpoint, &work, &over, &frames);
        let streams: Vec<_> = (0..STREAMS).map(|_| scope.spawn(stream)).collect();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| runtime.spawn(ask(nats.clone(), Arc::clone(&work), Arc::clone(&tally))))
            .collect();
        while tally.done.load(Ordering::Relaxed) < PICTURES / 3 {
            thread::sleep(PAUSE);
        }
        // Whichever has most streams.
        let busiest = (0..NODES).max_by_key(|&node| nodes[node].sessions()).unwrap();
        drop(nodes.remove(busiest));
        let waits = callers.into_iter().map(|caller| runtime.block_on(caller).unwrap());
        let waits: Vec<_> = waits.collect();
        over.store(true, Ordering::Relaxed);
        let pauses: Vec<_> = streams.into_iter().map(|stream| stream.join().unwrap()).collect();
        (pauses, waits)
    });
    let seconds = begun.elapsed().as_secs_f64();
    let Tally { done, again, extra, .. } = &*tally;
    let [done, again, extra, frames] =
        [done, again, extra, &frames].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(done, PICTURES, "pictures made");
    // Who asks again may be answered twice, and nobody else.
    assert!(extra <= again, "{extra} replies too many to {again} that were asked for again");
    let longest = |times: Vec<Duration>| times.into_iter().max().unwrap().as_secs_f64();
    let (stream, picture) = (longest(pauses), longest(waits));
    println!(
        "{NODES} nodes, one killed: {PICTURES} pictures and {frames} frames of {STREAMS} streams in {seconds:.1} s, all \
         right; {again} pictures asked for again, {extra} replies too many; longest pause of a stream {stream:.2} s, longest \
         wait for a picture {picture:.2} s (goal 2 s)"
    );
    format!(
        r#"{{"figure":"lost_node","pictures":{done},"frames":{frames},"seconds":{seconds:.2},"again":{again},"extra":{extra},"stream_pause_s":{stream:.3},"picture_wait_s":{picture:.3}}}"#
    )
}

fn spec() -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(320, 180));
    StreamSpec { slots: 2, ..StreamSpec::new(source, Extent::new(160, 90)) }
}

impl Work {
    fn new(near: &Endpoint) -> Self {
        let client = Client::connect(near).unwrap();
        let stream = client.open(&spec()).unwrap();
        let len = stream.loan().unwrap().layout().packed_len();
        let noise = |seed: usize, len: usize| -> Vec<u8> {
            let mut state = 2 * seed as u32 + 1;
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            (0..len).map(next).collect()
        };
        let frames: Vec<_> = (0..KINDS).map(|seed| noise(seed, len)).collect();
        let resized = frames.iter().map(|frame| {
            let mut slot = stream.loan().unwrap();
            slot.write_packed(frame).unwrap();
            slot.submit().unwrap().wait().unwrap().to_packed()
        });
        let resized = resized.collect();
        let pictures: Vec<_> = (0..KINDS)
            .map(|seed| {
                let (width, height, format) = (160, 120, turbojpeg::PixelFormat::RGB);
                let pixels = noise(seed, 3 * width * height);
                let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
                turbojpeg::compress(image, 80, turbojpeg::Subsamp::Sub2x2).unwrap().to_vec()
            })
            .collect();
        let limits = Limits { pixels: u64::MAX, made: u64::MAX, scans: 64 };
        let mut desk = Desk::new(client, limits).unwrap();
        let settings = Settings::new(SIZE.parse().unwrap());
        let made = pictures.iter().map(|picture| {
            let made = desk.resize(picture, &settings).unwrap();
            made.bytes.into_owned()
        });
        let made = made.collect();
        Self { pictures, made, frames, resized }
    }
}

/// Frames one after the other; the longest that one took, with all that reconnecting takes.
fn resize_until(
    endpoint: &Endpoint,
    work: &Work,
    over: &AtomicBool,
    frames: &AtomicUsize,
) -> Duration {
    let stream = Client::connect(endpoint).unwrap().open(&spec()).unwrap();
    let mut longest = Duration::ZERO;
    for kind in (0..KINDS).cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let mut slot = stream.loan().unwrap();
        slot.write_packed(&work.frames[kind]).unwrap();
        let frame = slot.submit().unwrap().wait().unwrap();
        assert!(frame.to_packed() == work.resized[kind], "another frame than was asked for");
        longest = longest.max(begun.elapsed());
        frames.fetch_add(1, Ordering::Relaxed);
    }
    longest
}

/// Pictures one after the other, each asked for until it is there; the longest that one took.
async fn ask(nats: Nats, work: Arc<Work>, tally: Arc<Tally>) -> Duration {
    let inbox = nats.new_inbox();
    let mut replies = nats.subscribe(format!("{inbox}.*")).await.unwrap();
    let mut longest = Duration::ZERO;
    loop {
        let number = tally.next.fetch_add(1, Ordering::Relaxed);
        if number >= PICTURES {
            break;
        }
        let kind = number % KINDS;
        let begun = Instant::now();
        'asked: loop {
            let mut headers = HeaderMap::new();
            headers.insert("Size", SIZE);
            let (reply, picture) = (format!("{inbox}.{number}"), work.pictures[kind].clone());
            let sent = nats.publish_with_reply_and_headers(
                "resized.picture",
                reply,
                headers,
                picture.into(),
            );
            sent.await.unwrap();
            while let Ok(reply) = timeout(PATIENCE, replies.next()).await {
                let reply = reply.unwrap();
                let to = reply.subject.rsplit('.').next().unwrap();
                if to.parse::<usize>().unwrap() != number {
                    tally.extra.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let refused = reply.status == Some(StatusCode::NO_RESPONDERS)
                    || reply
                        .headers
                        .is_some_and(|them| them.get(NATS_SERVICE_ERROR_CODE).is_some());
                if refused {
                    sleep(PAUSE).await;
                    break;
                }
                assert!(reply.payload[..] == work.made[kind], "another picture than was asked for");
                break 'asked;
            }
            tally.again.fetch_add(1, Ordering::Relaxed);
        }
        longest = longest.max(begun.elapsed());
        tally.done.fetch_add(1, Ordering::Relaxed);
    }
    // Whatever comes late.
    while timeout(PATIENCE, replies.next()).await.is_ok() {
        tally.extra.fetch_add(1, Ordering::Relaxed);
    }
    longest
}
