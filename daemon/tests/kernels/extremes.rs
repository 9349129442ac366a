//! The pictures on which a sum comes furthest from the middle, where words and sums have least room.

use resized_protocol::frame::Component;
use resized_protocol::message::StreamSpec;

use crate::exact;
use crate::frames::Ring;

/// A whole input frame: white wherever that adds to the sample with the largest weights, and black
/// elsewhere. The other way round in those channels whose bit of `flipped` is set.
pub(crate) fn worst(spec: &StreamSpec, ring: &Ring, flipped: u32) -> Vec<u8> {
    let placement = spec.placement().unwrap();
    let mut frame = vec![0; ring.layout.input().len()];
    let mut channel = 0;
    let (planes, destination) = (spec.source.format.components(), spec.destination.format);
    for (plane, components) in ring.layout.input().planes().iter().zip(planes) {
        let planes = destination.components();
        let to = planes.iter().map(|plane| plane[0]).find(|to| *to == components[0]);
        let to = to.unwrap_or(Component::Luma);
        let (across, down) = exact::weights(spec, &placement, (components[0], to), plane);
        let (across, down) = (largest(&across), largest(&down));
        for c in 0..plane.channels {
            let is_flipped = flipped >> channel & 1 == 1;
            channel += 1;
            for (y, x) in (0..plane.rows()).flat_map(|y| (0..across.len()).map(move |x| (y, x))) {
                let is_white = (across[x] > 0.0) == (down[y] > 0.0);
                let at = plane.offset + y * plane.stride;
                let at = at + (x * plane.channels + c) * plane.sample_bytes;
                frame[at..at + plane.sample_bytes].fill(if is_white == is_flipped {
                    0
                } else {
                    255
                });
            }
        }
    }
    frame
}

/// The window with the largest sum of weights, whatever their signs.
fn largest(windows: &[Vec<f64>]) -> &[f64] {
    let sum = |window: &Vec<f64>| window.iter().map(|weight| weight.abs()).sum::<f64>();
    windows.iter().max_by(|a, b| sum(a).total_cmp(&sum(b))).unwrap()
}
