//! What remote clients get is what local ones get.

use std::fs::File;
use std::process::Command;

use nix::sys::resource::{Resource as System, getrlimit, setrlimit};
use resized_client::{
    Arrangement, ChannelOrder, Client, Crop, Element, Endpoint, Error, Extent, FrameSpec,
    PixelFormat, Refusal, Resource, Stream, StreamSpec, Tensor, Whose, wait_any,
};

use crate::support::{Bridge, Local, bounded, noise, resized, spec, until};

#[test]
fn frames_of_every_format_are_those_of_a_local_client() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let (near, far) = (local.client(), bridge.client());
        assert_eq!(near.devices(), far.devices());
        let tensor = PixelFormat::Tensor(Tensor {
            element: Element::F32,
            arrangement: Arrangement::Planar,
            order: ChannelOrder::Rgb,
        });
        let formats = PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT);
        for (seed, format) in (1..).zip(formats) {
            let plain = spec(format, 3);
            let mut mixed = plain;
            mixed.destination.format = tensor;
            for spec in [plain, mixed] {
                let (near, far) = (near.open(&spec).unwrap(), far.open(&spec).unwrap());
                for seed in [seed, seed + 100] {
                    let far = resized(&far, seed).unwrap();
                    assert_eq!(resized(&near, seed).unwrap(), far, "{format:?}");
                }
            }
        }
    });
}

#[test]
fn many_in_flight_on_several_streams_are_right_in_any_order() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let (near, far) = (local.client(), bridge.client());
        let specs = [spec(PixelFormat::Rgb24, 4), spec(PixelFormat::I420, 5)];
        let near = specs.map(|spec| near.open(&spec).unwrap());
        let far = specs.map(|spec| far.open(&spec).unwrap());
        for round in 0..20 {
            let mut pendings = Vec::new();
            let mut expected = Vec::new();
            for (near, far) in near.iter().zip(&far) {
                let mut slots = Vec::new();
                for n in 0..4 {
                    let mut slot = far.loan().unwrap();
                    let seed = round * 10 + n;
                    let packed = noise(slot.layout().packed_len(), seed);
                    slot.write_packed(&packed).unwrap();
                    slots.push(slot);
                    expected.push(resized(near, seed).unwrap());
                }
                pendings.extend(far.submit_all(slots).unwrap());
            }
            let mut found = Vec::new();
            while !pendings.is_empty() {
                let done = wait_any(&pendings).unwrap();
                found.push(pendings.swap_remove(done).wait().unwrap().to_packed());
            }
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn crops_cancels_and_figures_go_through_a_bridge() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let (near, far) = (local.client(), bridge.client());
        let spec = spec(PixelFormat::Nv12, 4);
        let [near, stream] = [&near, &far].map(|client| client.open(&spec).unwrap());
        let crop = Crop { left: 3.25, top: 4.0, width: 50.0, height: 20.5 };
        let [near, cropped] = [&near, &stream].map(|stream| {
            let mut slot = stream.loan().unwrap();
            slot.write_packed(&noise(slot.layout().packed_len(), 5)).unwrap();
            slot.set_crop(crop).unwrap();
            slot.submit().unwrap().wait().unwrap().to_packed()
        });
        assert_eq!(near, cropped);
        // Given up, each frees its slot in the end.
        for _ in 0..40 {
            drop(stream.loan().unwrap().submit().unwrap());
        }
        let stats = far.stats().unwrap();
        assert_eq!(stats.streams, 2);
        assert!(far.clients().unwrap().is_empty());
        assert!(far.streams_of(0).unwrap().is_empty());
        // Closed with frames on their way, over and over.
        for seed in 0..40 {
            let short = far.open(&spec).unwrap();
            let pending = short.loan().unwrap().submit().unwrap();
            let slot = short.loan().unwrap();
            drop((short, pending, slot));
            assert!(resized(&stream, seed).is_ok());
        }
        drop(stream);
        until("all is given back", || far.stats().unwrap().streams == 1);
    });
}

#[test]
fn limits_are_said_in_turn_and_the_rest_goes_on() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &["--connection-memory", "1"]);
        let far = bridge.client();
        let small = spec(PixelFormat::Gray8, 2);
        let stream = far.open(&small).unwrap();
        let large = StreamSpec { slots: 200, ..small };
        for _ in 0..3 {
            match far.open(&large) {
                Err(Error::Refused(Refusal::Quota { whose, what, asked, left, limit })) => {
                    assert_eq!((whose, what), (Whose::Connection, Resource::RingBytes));
                    assert!(asked > left && left < limit && limit == 1 << 20);
                }
                other => panic!("{other:?}"),
            }
            // What the daemon has to say against a spec, it says.
            let none = far.open(&StreamSpec { slots: 0, ..small }).unwrap_err();
            assert!(matches!(none, Error::Refused(Refusal::Slots { asked: 0 })), "{none:?}");
            assert!(resized(&stream, 1).is_ok());
        }
        // What was closed can be had again.
        for _ in 0..20 {
            drop(far.open(&StreamSpec { slots: 50, ..small }).unwrap());
        }
    });
}

#[test]
fn nobody_has_all_streams_and_all_together_no_more_than_the_bridge_may() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &["--memory", "4"]);
        let (far, other) = (bridge.client(), bridge.client());
        let refused = |stream: Result<Stream, Error>| match stream {
            Err(Error::Refused(Refusal::Quota { whose, what, limit, .. })) => (whose, what, limit),
            other => panic!("{other:?}"),
        };
        let small = StreamSpec::new(
            FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8)),
            Extent::new(4, 4),
        );
        let small = StreamSpec { slots: 1, ..small };
        let streams: Vec<_> = (0..256).map(|_| far.open(&small).unwrap()).collect();
        let full = (Whose::Connection, Resource::Streams, 256);
        assert_eq!(refused(far.open(&small)), full);
        drop(other.open(&small).unwrap());
        drop(streams);
        // Half of the memory and a little.
        let large = StreamSpec { slots: 256, ..spec(PixelFormat::Gray8, 2) };
        let first = far.open(&large).unwrap();
        let full = (Whose::Bridge, Resource::RingBytes, 4 << 20);
        assert_eq!(refused(other.open(&large)), full);
        drop(first);
        until("there is room", || other.open(&large).is_ok());
    });
}

/// Where a process of this test's own finds the bridge.
const ENDPOINT: &str = "RESIZED_TEST_BRIDGE";

#[test]
fn a_stream_that_a_client_has_no_descriptor_for_is_lost_alone() {
    // The limit is a process's, and other tests are in this one.
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        return without_descriptors(&endpoint.parse().unwrap());
    }
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let test = "frames::a_stream_that_a_client_has_no_descriptor_for_is_lost_alone";
        let mut client = Command::new(std::env::current_exe().unwrap());
        client.args(["--exact", test, "--nocapture"]);
        let output = client.env(ENDPOINT, bridge.endpoint().to_string()).output().unwrap();
        let [said, wrong] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
        let passed = output.status.success() && said.contains("1 passed");
        assert!(passed, "{said}\n{wrong}");
    });
}

fn without_descriptors(bridge: &Endpoint) {
    let client = Client::connect(bridge).unwrap();
    let spec = spec(PixelFormat::Gray8, 2);
    let stream = client.open(&spec).unwrap();
    let expected = resized(&stream, 1).unwrap();
    let (_, hard) = getrlimit(System::RLIMIT_NOFILE).unwrap();
    setrlimit(System::RLIMIT_NOFILE, 256, hard).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for _ in 0..3 {
        let error = client.open(&spec).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::System { .. })), "{error:?}");
        assert_eq!(resized(&stream, 1).unwrap(), expected);
    }
    drop(all);
    // Nor does the bridge keep them.
    until("they are closed there", || client.stats().unwrap().streams == 1);
    assert_eq!(resized(&client.open(&spec).unwrap(), 1).unwrap(), expected);
}
