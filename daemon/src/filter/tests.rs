//! What every device relies on in [`Taps`].

use proptest::prelude::*;
use resized_protocol::frame::Siting;
use resized_protocol::placement::Crop;

use super::axis::Grid;
use super::*;

fn axes() -> impl Strategy<Value = Axis> {
    let siting = || prop_oneof![Just(Siting::Left), Just(Siting::Centre)];
    let length = || prop_oneof![4 => 1_u32..64, 2 => 1_u32..2000, 1 => 16_300_u32..=16_384];
    let grid = || prop_oneof![Just(Grid::Whole), siting().prop_map(Grid::Halved)];
    let crop = proptest::option::of((0.0..1.0, 0.001..1.0));
    (length(), length(), grid(), grid(), crop).prop_map(|(source, destination, from, to, crop)| {
        let (whole, (start, len)) = (f64::from(source), crop.unwrap_or((0.0, 1.0)));
        let crop = (start * whole, (len * (1.0 - start) * whole).max(Crop::LEAST));
        let start = crop.0.min(whole - crop.1);
        Axis::new(source, (start, crop.1), destination, from, to)
    })
}

fn filters() -> impl Strategy<Value = Filter> {
    proptest::sample::select(Filter::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn weights_sum_to_the_gain_inside_the_source_and_leave_headroom(
        filter in filters(),
        axis in axes(),
        gain in prop_oneof![Just(1.0), Just(255.0 / 219.0), Just(219.0 / 255.0)],
    ) {
        let taps = Taps::new(filter, &axis, gain);
        let total = (gain * f64::from(ONE)).round() as i32;
        prop_assert_eq!(taps.destination(), axis.destination() as usize);
        for index in 0..taps.destination() {
            let window = taps.window(index);
            prop_assert!(window.start + window.weights.len() <= axis.source() as usize);
            let (first, end) = axis.within();
            prop_assert!(window.used().all(|(x, _)| (first..end).contains(&(x as u32))));
            let sum: i32 = window.weights.iter().map(|&weight| i32::from(weight)).sum();
            prop_assert_eq!(sum, total);
            // Below two: 255 x 64 x 2 is what a word with six fraction bits can hold.
            let positive: i32 = window.weights.iter().map(|&weight| i32::from(weight).max(0)).sum();
            prop_assert!(positive < 2 * ONE);
        }
    }

    #[test]
    fn a_mirrored_axis_has_mirrored_windows(
        filter in filters().prop_filter("rounds halves upwards", |&filter| filter != Filter::Nearest),
        source in 1_u32..300,
        destination in 1_u32..300,
    ) {
        let taps = Taps::new(filter, &Axis::full(source, destination), 1.0);
        let spread = |index: usize| {
            let (mut all, window) = (vec![0_i32; source as usize], taps.window(index));
            for (i, &weight) in window.weights.iter().enumerate() {
                all[window.start + i] = i32::from(weight);
            }
            all
        };
        for index in 0..taps.destination() {
            let mut mirrored = spread(taps.destination() - 1 - index);
            mirrored.reverse();
            for (a, b) in spread(index).into_iter().zip(mirrored) {
                prop_assert!((a - b).abs() <= 1, "{} of {:?}", index, taps.window(index));
            }
        }
    }

    #[test]
    fn at_the_same_length_every_filter_copies(filter in filters(), length in 1_u32..500) {
        let taps = Taps::new(filter, &Axis::full(length, length), 1.0);
        for index in 0..length as usize {
            prop_assert_eq!(taps.window(index), Window { start: index, step: 1, weights: &[16_384] });
        }
    }
}

#[test]
fn windows_hold_no_more_than_the_kernel_needs() {
    let count = |filter, source, destination| {
        Taps::new(filter, &Axis::full(source, destination), 1.0).count()
    };
    assert_eq!(count(Filter::Bicubic, 1280, 640), 8);
    assert_eq!(count(Filter::Bicubic, 1920, 640), 11);
    assert_eq!(count(Filter::Lanczos3, 1280, 640), 12);
    assert_eq!(count(Filter::Bilinear, 640, 1280), 2);
    assert_eq!(count(Filter::Area, 1920, 640), 3);
    assert_eq!(count(Filter::Nearest, 1920, 640), 1);
}

#[test]
fn area_weighs_by_overlap() {
    let taps = Taps::new(Filter::Area, &Axis::full(3, 2), 1.0);
    assert_eq!(taps.window(0), Window { start: 0, step: 1, weights: &[10_923, 5461] });
    assert_eq!(taps.window(1), Window { start: 1, step: 1, weights: &[5461, 10_923] });
    let taps = Taps::new(Filter::Area, &Axis::full(2, 5), 1.0);
    assert_eq!(taps.window(2), Window { start: 0, step: 1, weights: &[8192, 8192] });
    assert_eq!(taps.window(0), Window { start: 0, step: 1, weights: &[16_384, 0] });
}

#[test]
fn nearest_takes_the_sample_that_holds_the_centre() {
    let taps = Taps::new(Filter::Nearest, &Axis::full(5, 3), 1.0);
    let starts: Vec<_> = (0..3).map(|index| taps.window(index).start).collect();
    assert_eq!(starts, [0, 2, 4]);
    let taps = Taps::new(Filter::Nearest, &Axis::full(2, 4), 1.0);
    let starts: Vec<_> = (0..4).map(|index| taps.window(index).start).collect();
    assert_eq!(starts, [0, 0, 1, 1]);
}

#[test]
fn interleaved_channels_keep_their_taps() {
    let axis = Axis::full(20, 7);
    let channels = [1.0, 1.0, 1.0, 0.5].map(|gain| Taps::new(Filter::Lanczos3, &axis, gain));
    let taps = Taps::interleaved(&channels.each_ref());
    assert_eq!((taps.source(), taps.destination()), (80, 28));
    for (index, channel) in (0..7).flat_map(|pixel| (0..4).map(move |channel| (pixel, channel))) {
        let found: Vec<_> = taps.window(4 * index + channel).used().collect();
        let wanted = channels[channel].window(index).used();
        let wanted: Vec<_> = wanted.map(|(sample, w)| (4 * sample + channel, w)).collect();
        assert_eq!(found, wanted);
    }
}
