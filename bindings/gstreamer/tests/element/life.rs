//! Daemons that go away, pipelines that are stopped meanwhile, and elements that start again.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gst::prelude::*;
use resized_protocol::VERSION;
use resized_protocol::codec;
use resized_protocol::message::{Features, Message, Reply};

use crate::studio::{Studio, errors, info, init, noise, packed};

const FROM: &str = "format=GRAY8,width=64,height=64";
const TO: &str = "format=GRAY8,width=32,height=32";
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_daemon_that_comes_back_costs_a_pause() {
    let mut studio = Studio::new();
    let (mut harness, _element, bus) = studio.harness(FROM, TO);
    let frame = noise(&info(FROM), 0);
    let mut results = Vec::new();
    for round in 0..12 {
        if round % 4 == 3 {
            studio.stop();
            // The frame is pushed before there is another daemon, or not long after.
            thread::scope(|scope| {
                let pushed = scope.spawn(|| harness.push(frame.clone()));
                studio.start();
                pushed.join().unwrap().unwrap();
            });
        } else {
            harness.push(frame.clone()).unwrap();
        }
        results.push(packed(&harness.pull().unwrap(), &info(TO)));
    }
    assert!(results.iter().all(|result| *result == results[0]));
    assert_eq!(errors(&bus), [] as [&str; 0]);
}

#[test]
fn a_daemon_that_is_gone_is_an_error_in_its_clients_words() {
    let mut studio = Studio::new();
    let (element, bus) = studio.element();
    element.set_property("reconnect", 0.2);
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_caps(info(FROM).to_caps().unwrap(), info(TO).to_caps().unwrap());
    harness.push(noise(&info(FROM), 0)).unwrap();
    studio.stop();
    assert_eq!(harness.push(noise(&info(FROM), 0)), Err(gst::FlowError::Error));
    let said = errors(&bus);
    assert!(said[0].contains("did not find it again in"), "{said:?}");
}

#[test]
fn a_pipeline_stops_though_its_daemon_is_gone_and_starts_again() {
    let mut studio = Studio::new();
    init();
    let pipeline = format!(
        "videotestsrc ! video/x-raw,{FROM} ! resizedscale name=scale endpoint={} reconnect=0.2 \
         ! video/x-raw,{TO} ! fakesink",
        studio.endpoint()
    );
    let pipeline = gst::parse::launch(&pipeline).unwrap().downcast::<gst::Pipeline>().unwrap();
    let scale = pipeline.by_name("scale").unwrap();
    let watch = |pad: &str| {
        let (seen, buffers) = mpsc::sync_channel(1);
        scale.static_pad(pad).unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let _ = seen.try_send(());
            gst::PadProbeReturn::Ok
        });
        buffers
    };
    let (arriving, leaving) = (watch("sink"), watch("src"));
    for _ in 0..2 {
        pipeline.set_state(gst::State::Playing).unwrap();
        // One may be left of the last round.
        for _ in 0..3 {
            leaving.recv_timeout(LONG).unwrap();
        }
        studio.stop();
        let _ = arriving.try_recv();
        // What arrives now waits for a daemon. Should all have arrived before, then it waits already.
        let _ = arriving.recv_timeout(Duration::from_millis(500));
        pipeline.set_state(gst::State::Null).unwrap();
        studio.start();
    }
}

#[test]
fn a_pipeline_stops_though_its_daemon_does_not_open_a_stream() {
    init();
    // Says welcome, and nothing more.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hangs");
    let listener = UnixListener::bind(&path).unwrap();
    let (asked, opening) = mpsc::channel();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        assert!(socket.read(&mut bytes).unwrap() > 0);
        let (features, devices) = (Features::default(), Vec::new());
        let welcome = Message::Reply(Reply::Welcome { version: VERSION, features, devices });
        let mut said = Vec::new();
        codec::encode(&welcome, &mut said).unwrap();
        socket.write_all(&said).unwrap();
        while socket.read(&mut bytes).is_ok_and(|read| read > 0) {
            asked.send(()).unwrap();
        }
    });
    let pipeline = format!(
        "videotestsrc ! video/x-raw,{FROM} ! resizedscale endpoint=unix:{} ! video/x-raw,{TO} \
         ! fakesink",
        path.display()
    );
    let pipeline = gst::parse::launch(&pipeline).unwrap();
    pipeline.set_property("auto-flush-bus", false);
    pipeline.set_state(gst::State::Playing).unwrap();
    opening.recv_timeout(LONG).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(errors(&pipeline.bus().unwrap()), [] as [&str; 0]);
}

#[test]
fn elements_start_again_and_share_the_daemon_in_their_process() {
    init();
    let pipeline = format!(
        "videotestsrc num-buffers=5 ! video/x-raw,{FROM} ! resizedscale endpoint=embedded \
         ! video/x-raw,width=48,height=48 ! resizedscale endpoint=embedded \
         ! video/x-raw,width=32,height=32 ! fakesink name=end"
    );
    let pipeline = gst::parse::launch(&pipeline).unwrap().downcast::<gst::Pipeline>().unwrap();
    let bus = pipeline.bus().unwrap();
    let end = pipeline.by_name("end").unwrap();
    for _ in 0..3 {
        let (seen, buffers) = mpsc::channel();
        let pad = end.static_pad("sink").unwrap();
        let probe = pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            seen.send(buffer.size()).unwrap();
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let over = [gst::MessageType::Eos, gst::MessageType::Error];
        let last = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &over).unwrap();
        assert_eq!(last.type_(), gst::MessageType::Eos, "{last:?}");
        pipeline.set_state(gst::State::Null).unwrap();
        pad.remove_probe(probe.unwrap());
        assert_eq!(buffers.iter().collect::<Vec<_>>(), [32 * 32; 5]);
    }
}
