//! Single frames and their slots: odd sizes, cancelling, waiting in any order, packing.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::signal::Signal;
use resized_client::{
    Align, Arrangement, ChannelOrder, Crop, Element, Error, Filter, Frame, Framing, KeptStreams,
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
            drop(stream.try_loan().unwrap().unwrap().submit().unwrap().wait().unwrap());
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
        assert_eq!(frame.device().as_deref(), Some("cpu"));
    });
}

#[test]
fn rows_are_without_padding_however_far_apart_they_lie() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let spec = spec(PixelFormat::I420, Filter::Nearest, (5, 3), (5, 3));
        let stream = daemon.client().open(&spec).unwrap();
        let packed = oracle::noise(&spec, 9);
        let planes = [(15, 5, 3), (6, 3, 2), (6, 3, 2)];
        let mut rest = packed.as_slice();
        let mut slot = stream.loan().unwrap();
        for (index, (len, row, rows)) in planes.into_iter().enumerate() {
            let (plane, behind) = rest.split_at(len);
            rest = behind;
            assert_eq!(slot.rows_mut(index).len(), rows);
            // As they are, in rows of eleven bytes, and row after row from the last on.
            for stride in [row, 11] {
                slot.rows_mut(index).for_each(|row| row.fill(0));
                let apart = plane.chunks(row).flat_map(|row| {
                    let padding = std::iter::repeat_n(7, stride - row.len());
                    row.iter().copied().chain(padding)
                });
                let apart: Vec<u8> = apart.collect();
                let shortest = apart.len() - (stride - row);
                slot.write_plane(index, &apart[..shortest], stride).unwrap();
                assert!(slot.rows_mut(index).map(|row| &*row).eq(plane.chunks(row)));
                let short = slot.write_plane(index, &apart[..shortest - 1], stride).unwrap_err();
                assert!(matches!(short, Error::PlaneLen { found, .. } if found == shortest - 1));
            }
            for stride in [0, row - 1, usize::MAX] {
                let error = slot.write_plane(index, plane, stride).unwrap_err();
                assert_eq!(matches!(error, Error::Stride { .. }), stride < row, "{error}");
            }
            let backwards = slot.rows_mut(index).rev().zip(plane.rchunks(row));
            backwards.for_each(|(row, from)| row.copy_from_slice(from));
        }
        let frame = slot.submit().unwrap().wait().unwrap();
        assert_eq!(frame.to_packed(), packed);
        let mut rows = frame.rows(0);
        assert_eq!((rows.len(), rows.next_back()), (3, Some(&packed[10..15])));
        let mut apart = [7; 2 * 11 + 5];
        frame.read_plane(0, &mut apart, 11).unwrap();
        let wanted = [&packed[..5], &[7; 6], &packed[5..10], &[7; 6], &packed[10..15]].concat();
        assert_eq!(apart, wanted.as_slice());
        let mut short = [7; 2 * 11 + 4];
        let error = frame.read_plane(0, &mut short, 11).unwrap_err();
        assert!(matches!(error, Error::PlaneLen { rows: 3, row_bytes: 5, stride: 11, found: 26 }));
        assert_eq!(short, [7; 26]);
    });
}

#[test]
fn frames_of_an_iterator_come_back_in_order_each_with_its_own_error() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let client = daemon.client();
        for slots in [1, 2, 4] {
            let stream = client.open(&StreamSpec { slots, ..oracle::dot() }).unwrap();
            assert_eq!(stream.spec().slots, slots);
            let frames = (0..20_u8).map(|n| if n % 7 == 3 { vec![n; 2] } else { vec![n] });
            let results = stream.map(frames).map(|frame| Ok(frame?.to_packed()[0]));
            for (n, result) in (0..20_u8).zip(results) {
                match result {
                    Ok(value) => assert_eq!(value, n),
                    Err(Error::PackedLen { expected: 1, found: 2 }) => assert_eq!(n % 7, 3),
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(stream.map([[0_u8]; 0]).count(), 0);
        }
    });
}

#[test]
fn whoever_keeps_results_of_an_iterator_has_fewer_in_flight() {
    bounded(|| {
        let daemon = Daemon::start(&[]);
        let stream = daemon.client().open(&StreamSpec { slots: 4, ..oracle::dot() }).unwrap();
        let slots = stream.spec().slots as usize;
        let value = |frame: &Frame| frame.to_packed()[0];
        let mut results = stream.map((0..20_u8).map(|n| [n]));
        assert_eq!(results.size_hint(), (20, Some(20)));
        let mut kept: Vec<_> = results.by_ref().take(slots - 1).map(Result::unwrap).collect();
        assert_eq!(results.size_hint().0, 20 - kept.len());
        for n in kept.len()..19 {
            assert_eq!(value(&results.next().unwrap().unwrap()), n as u8);
        }
        // All slots are results: there is no more to come, and nothing to wait for.
        kept.push(results.next().unwrap().unwrap());
        assert!(results.next().is_none());
        let kept: Vec<_> = kept.into_iter().map(|frame| value(&frame)).collect();
        assert_eq!(kept, [0, 1, 2, 19]);
        // One that is given up leaves nothing behind.
        drop(stream.map([[1]; 20]).next());
        let all: Vec<_> = (0..slots).map(|_| stream.loan().unwrap()).collect();
        assert_eq!(all.len(), slots);
    });
}
