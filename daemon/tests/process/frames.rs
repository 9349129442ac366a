//! Single frames and their slots: odd sizes, cancelling, waiting in any order, packing.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::signal::Signal;
use resized_client::{
    Align, Arrangement, ChannelOrder, Crop, Element, Error, Filter, Framing, KeptStreams,
    PixelFormat, Refusal, Stream, StreamSpec, Tensor, wait_any,
};

use crate::oracle::{self, Checked, spec};
use crate::support::{Daemon, bounded, until};

#[test]
fn odd_sizes_are_as_the_oracle_says() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let sizes = [
            ((1, 1), (3, 7)),
            ((3, 7), (1, 1)),
            ((1, 1), (1, 1)),
            ((16_383, 1), (100, 1)),
            ((100, 1), (16_383, 1)),
            ((1, 16_383), (1, 77)),
            ((2, 3), (16_384, 2)),
            ((45, 31), (101, 67)),
            ((64, 3), (65, 300)),
        ];
        for (n, (from, to)) in sizes.into_iter().enumerate() {
            for filter in Filter::ALL {
                for format in [PixelFormat::EIGHT_BIT[n % 7], PixelFormat::I420] {
                    Checked::open(&client, spec(format, filter, from, to), 1).round_trip(0);
                }
            }
        }
    });
}

#[test]
fn a_tensor_is_its_numbers_and_nothing_else() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let streams = KeptStreams::new(daemon.client(), 2);
        let mut spec = spec(PixelFormat::Rgb24, Filter::Bilinear, (40, 30), (21, 13));
        let packed = [200; 40 * 30 * 3];
        let rgb = streams.resize(&spec, &packed).unwrap();
        assert!(rgb.f32s().is_none());
        assert!(matches!(streams.resize(&spec, &[0]), Err(Error::PackedLen { .. })));
        for (element, bytes) in [(Element::F32, 4), (Element::F16, 2), (Element::I8, 1)] {
            let (arrangement, order) = (Arrangement::Planar, ChannelOrder::Rgb);
            spec.destination.format = PixelFormat::Tensor(Tensor { element, arrangement, order });
            spec.normalisation.scale = [0.5; 3];
            let mut frame = streams.resize(&spec, &packed).unwrap();
            assert_eq!(frame.output().len(), 3 * 21 * 13 * bytes);
            assert_eq!(frame.output_mut().len(), 3 * 21 * 13 * bytes);
            let numbers = frame.f32s().map(|numbers| numbers.iter().map(|n| n.round()).collect());
            assert_eq!(numbers, (element == Element::F32).then(|| vec![100.0; 3 * 21 * 13]));
        }
    });
}

#[test]
fn frames_may_have_crops_of_their_own() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let framing = Framing::Fit { align: Align::Centre, pad: [1, 2, 3] };
        let whole = StreamSpec {
            framing,
            slots: 6,
            ..spec(PixelFormat::I420, Filter::Bicubic, (512, 282), (256, 256))
        };
        let stream = client.open(&whole).unwrap();
        let source = oracle::noise(&whole, 1);
        let crop = |n: u32| Crop {
            left: f64::from(n) * 10.25,
            top: 3.0,
            width: 500.0 - f64::from(n) * 20.0,
            height: 200.5,
        };
        // Each in its own message, twice in a row the same; then all in one, some without.
        let crops = [Some(crop(1)), Some(crop(2)), Some(crop(2)), None, Some(crop(3)), None];
        for together in [false, true] {
            let slot = |crop: &Option<Crop>| {
                let mut slot = stream.loan().unwrap();
                slot.write_packed(&source).unwrap();
                crop.iter().for_each(|&crop| slot.set_crop(crop).unwrap());
                slot
            };
            let slots: Vec<_> = crops.iter().map(slot).collect();
            let pendings = match together {
                true => stream.submit_all(slots).unwrap(),
                false => slots.into_iter().map(|slot| slot.submit().unwrap()).collect(),
            };
            for (pending, crop) in pendings.into_iter().zip(crops) {
                let frame = pending.wait().unwrap();
                let spec = StreamSpec { crop, ..whole };
                assert!(frame.to_packed() == oracle::resized(&spec, &source), "{crop:?}");
                assert_eq!(frame.placement(), spec.placement().unwrap());
            }
        }
        let mut slot = stream.loan().unwrap();
        let outside = Crop { left: 500.0, ..crop(1) };
        assert!(matches!(slot.set_crop(outside), Err(Error::Refused(Refusal::Crop { .. }))));
    });
}

#[test]
fn dropped_pendings_give_their_slots_back() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        for spec in [StreamSpec { slots: 12, ..oracle::big() }, oracle::dot()] {
            let stream = Checked::open(&client, spec, 2);
            for round in 0..4 {
                for n in 0..spec.slots as usize {
                    drop(stream.submit(n).unwrap());
                }
                let all = |_| stream.stream.loan().unwrap();
                let slots: Vec<_> = (0..spec.slots).map(all).collect();
                assert!(stream.stream.try_loan().unwrap().is_none());
                drop(slots);
                // Whatever was cancelled, the next frame is this one and no other.
                stream.round_trip(round);
            }
        }
        let stats = client.stats().unwrap();
        assert_eq!((stats.queued, stats.devices[0].failed), (0, 0));
    });
}

#[test]
fn half_of_the_pendings_dropped_leaves_the_other_half_right() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let stream = Checked::open(&client, StreamSpec { slots: 10, ..oracle::big() }, 10);
        let pendings: Vec<_> = (0..10).map(|n| stream.submit(n).unwrap()).collect();
        for (n, pending) in pendings.into_iter().enumerate() {
            match n % 2 {
                0 => drop(pending),
                _ => stream.check(n, &pending.wait().unwrap()),
            }
        }
    });
}

#[test]
fn wait_any_gives_each_frame_once() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let sizes = [((1, 1), (1, 1)), ((400, 300), (2, 1)), ((50, 50), (200, 150))];
        let streams = sizes.map(|(from, to)| {
            let spec = spec(PixelFormat::Gray8, Filter::Area, from, to);
            client.open(&StreamSpec { slots: 8, ..spec }).unwrap()
        });
        // Flat frames, each of its own brightness.
        let mut pendings = Vec::new();
        for value in 0..24_u8 {
            let mut slot = streams[value as usize % 3].loan().unwrap();
            slot.input_mut().fill(value);
            pendings.push(slot.submit().unwrap());
        }
        let mut seen = BTreeSet::new();
        while !pendings.is_empty() {
            let done = wait_any(&pendings).unwrap();
            let frame = pendings.swap_remove(done).wait_timeout(Duration::ZERO).unwrap();
            let packed = frame.unwrap().to_packed();
            assert!(packed.iter().all(|&sample| sample == packed[0]));
            assert!(seen.insert(packed[0]), "frame {} came twice", packed[0]);
        }
        assert!(seen.into_iter().eq(0..24));
    });
}

#[test]
fn wait_any_tells_a_frame_that_failed_from_a_lost_connection() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.faithful_client();
        let deadline = Some(Duration::from_nanos(1));
        let specs = [StreamSpec { deadline, ..oracle::dot() }, oracle::dot()];
        let [hurried, patient] = specs.map(|spec| client.open(&spec).unwrap());
        let submit = |stream: &Stream| stream.loan().unwrap().submit().unwrap();
        until("a frame is late", || {
            let mut pendings = vec![submit(&hurried), submit(&patient)];
            let first = wait_any(&pendings).unwrap();
            let frames = [first, 0].map(|n| pendings.swap_remove(n).wait());
            let [hurried, patient] = match (first, frames) {
                (0, frames) => frames,
                (_, [patient, hurried]) => [hurried, patient],
            };
            drop(patient.unwrap());
            hurried.is_err_and(|error| matches!(error, Error::Late))
        });
        daemon.process.signal(Signal::SIGSTOP);
        let pendings = [submit(&hurried), submit(&patient)];
        daemon.process.signal(Signal::SIGKILL);
        let lost = wait_any(&pendings).unwrap_err();
        assert!(matches!(lost, Error::Disconnected | Error::Socket(_)), "{lost}");
    });
}

#[test]
fn slots_submitted_together_are_each_their_own_frame() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let spec = StreamSpec { slots: 256, ..oracle::dot() };
        let stream = client.open(&spec).unwrap();
        assert!(stream.submit_all(Vec::new()).unwrap().is_empty());
        let slot = |value| {
            let mut slot = stream.loan().unwrap();
            slot.write_packed(&[value]).unwrap();
            slot
        };
        let pendings = stream.submit_all((0..=255).map(slot).collect()).unwrap();
        assert!(stream.try_loan().unwrap().is_none());
        for (value, pending) in pendings.into_iter().enumerate() {
            assert_eq!(pending.wait().unwrap().to_packed(), [value as u8]);
        }
    });
}

#[test]
fn slots_that_are_another_streams_are_given_back() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let [ours, theirs] = [1, 1].map(|slots| {
            let spec = StreamSpec { slots, ..oracle::dot() };
            client.open(&spec).unwrap()
        });
        let slots = vec![ours.loan().unwrap(), theirs.loan().unwrap()];
        let submit = AssertUnwindSafe(|| ours.submit_all(slots));
        assert!(catch_unwind(submit).is_err());
        for stream in [ours, theirs] {
            stream.try_loan().unwrap().unwrap().submit().unwrap().wait().unwrap();
        }
    });
}

#[test]
fn packed_frames_survive_the_padding_and_wrong_lengths_are_said() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        let spec = spec(PixelFormat::I420, Filter::Nearest, (5, 3), (5, 3));
        let stream = client.open(&spec).unwrap();
        let mut slot = stream.loan().unwrap();
        let packed = oracle::noise(&spec, 9);
        assert_eq!(packed.len(), 15 + 6 + 6);
        for wrong in [&packed[..26], &[packed.as_slice(), &[0]].concat(), &[]] {
            let error = slot.write_packed(wrong).unwrap_err();
            let found = wrong.len();
            assert!(
                matches!(error, Error::PackedLen { expected: 27, found: f } if f == found),
                "{error}"
            );
        }
        slot.write_packed(&packed).unwrap();
        assert_eq!(slot.plane_mut(1)[..3], packed[15..18]);
        let pending = slot.submit().unwrap();
        let frame = pending.wait().unwrap();
        assert_eq!(frame.to_packed(), packed);
        assert_eq!(frame.plane(2)[..3], packed[21..24]);
        assert_eq!(client.devices()[frame.receipt().device as usize], "cpu");
    });
}
