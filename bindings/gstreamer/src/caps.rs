//! Owns negotiation: what sizes a format may have on the other side, and which of them it gets.
//!
//! Knows no frames. As `videoscale` does it: everything but size and pixel shape stays as it is, and
//! of what both sides leave open that is chosen which keeps the picture's shape, and then as many
//! pixels as there were. A test compares what comes of both. Of interlaced video size and pixel shape
//! stay, too: it goes through or is refused, and upstream that can give other video learns that.

use gst_video::{VideoInfo, VideoInterlaceMode};
use resized_client::{Extent, MAX_SIDE};

use crate::formats::FORMATS;
use crate::picture::{Ratio, Shape};

const WIDTH: &str = "width";
const HEIGHT: &str = "height";
const PIXEL: &str = "pixel-aspect-ratio";
const INTERLACE: &str = "interlace-mode";
const SQUARE: Ratio = Ratio::ONE;

/// Modes of video whose frames are resized, of the second unless a buffer says that its own is
/// interlaced.
const RESIZED: [VideoInterlaceMode; 2] =
    [VideoInterlaceMode::Progressive, VideoInterlaceMode::Mixed];

/// What either side may have.
pub(crate) fn template() -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format_list(FORMATS)
        .width_range(1..=MAX_SIDE as i32)
        .height_range(1..=MAX_SIDE as i32)
        .build()
}

/// What the other side may have of these caps, within `filter`; `direction` is that of the pad whose
/// they are.
pub(crate) fn transform(
    direction: gst::PadDirection,
    caps: &gst::CapsRef,
    filter: Option<&gst::CapsRef>,
) -> gst::Caps {
    let mode = gst::CapsIntersectMode::First;
    match (direction, filter) {
        (gst::PadDirection::Sink, None) => opened(caps, Unsaid::Progressive),
        (gst::PadDirection::Sink, Some(filter)) => {
            filter.intersect_with_mode(&opened(caps, Unsaid::Progressive), mode)
        }
        (_, None) => opened(caps, Unsaid::Any),
        (_, Some(filter)) => {
            // Upstream's, structure by structure: what it does not say stays so.
            let of_each = filter.iter_with_features().map(|(structure, features)| {
                let one = gst::Caps::builder_full()
                    .structure_with_features(structure.to_owned(), features.to_owned())
                    .build();
                let says = structure.has_field(INTERLACE);
                let unsaid = if says { Unsaid::Any } else { Unsaid::Progressive };
                one.intersect_with_mode(&opened(caps, unsaid), mode)
            });
            of_each.fold(gst::Caps::new_empty(), |mut all, one| {
                all.merge(one);
                all
            })
        }
    }
}

/// What caps mean that say nothing of interlacing.
#[derive(Clone, Copy)]
enum Unsaid {
    /// For who gives video.
    Progressive,
    /// For who takes it.
    Any,
}

/// Caps of any size in place of those that can be resized, and the others.
fn opened(caps: &gst::CapsRef, unsaid: Unsaid) -> gst::Caps {
    let mut others = gst::Caps::new_empty();
    let all = others.make_mut();
    for (structure, features) in caps.iter_with_features() {
        let part = resized(structure, unsaid);
        let is_all = part.as_ref().is_some_and(|part| **part == *structure);
        if let Some(mut other) = part {
            other.set(WIDTH, gst::IntRange::new(1, MAX_SIDE as i32));
            other.set(HEIGHT, gst::IntRange::new(1, MAX_SIDE as i32));
            if other.has_field(PIXEL) {
                other.set(PIXEL, any_pixel());
            }
            all.append_structure_full(other, Some(features.to_owned()));
        }
        if !is_all {
            all.append_structure_full(structure.to_owned(), Some(features.to_owned()));
        }
    }
    others
}

/// The part of such video that can be resized.
fn resized(structure: &gst::StructureRef, unsaid: Unsaid) -> Option<gst::Structure> {
    if matches!(unsaid, Unsaid::Progressive) && !structure.has_field(INTERLACE) {
        return Some(structure.to_owned());
    }
    let modes = gst::List::new(RESIZED.map(VideoInterlaceMode::to_str));
    structure.intersect(&gst::Structure::builder(structure.name()).field(INTERLACE, modes).build())
}

/// Whether frames of these caps are resized.
pub(crate) fn are_resized(caps: &gst::CapsRef) -> bool {
    VideoInfo::from_caps(caps).is_ok_and(|info| RESIZED.contains(&info.interlace_mode()))
}

/// Of what the other side may have, what it gets; `direction` is that of the pad whose caps are
/// known.
pub(crate) fn fixate(
    direction: gst::PadDirection,
    known: &gst::CapsRef,
    mut others: gst::Caps,
) -> gst::Caps {
    let known = known.structure(0).and_then(shape);
    let open = others.structure(0).zip(others.features(0));
    if let (Some(known), Some((other, features))) = (known, open) {
        let (mut other, features) = (other.to_owned(), features.to_owned());
        let said = other.has_field(PIXEL);
        if !said {
            // Who takes frames and says nothing of their pixels' shape takes any; who gives them
            // has square ones.
            match direction {
                gst::PadDirection::Sink => other.set(PIXEL, any_pixel()),
                _ => other.set(PIXEL, SQUARE.fraction()),
            }
        }
        other = keeping_shape(&known, other);
        if !said && pixel(&other) == Some(SQUARE) {
            other.remove_field(PIXEL);
        }
        others = gst::Caps::new_empty();
        others.make_mut().append_structure_full(other, Some(features));
    }
    others.fixate();
    others
}

fn any_pixel() -> gst::FractionRange {
    gst::FractionRange::new(gst::Fraction::new(1, i32::MAX), gst::Fraction::new(i32::MAX, 1))
}

/// The shape of fixed caps.
fn shape(structure: &gst::StructureRef) -> Option<Shape> {
    let extent = Extent::new(side(structure, WIDTH)?, side(structure, HEIGHT)?);
    Some(Shape { extent, pixel: pixel(structure).unwrap_or(SQUARE) })
}

/// A side that is fixed.
fn side(structure: &gst::StructureRef, name: &str) -> Option<u32> {
    structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok())
}

/// The pixels' shape if it is fixed.
fn pixel(structure: &gst::StructureRef) -> Option<Ratio> {
    structure.get::<gst::Fraction>(PIXEL).ok().map(Ratio::of)
}

/// Fixes a side as near to that as may be. What it became, if it can be fixed.
fn near(structure: &mut gst::StructureRef, name: &str, wanted: u32) -> Option<u32> {
    if side(structure, name).is_none() && structure.has_field(name) {
        structure.fixate_field_nearest_int(name, i32::try_from(wanted).unwrap_or(i32::MAX));
    }
    side(structure, name)
}

/// Fixes sizes and pixels' shape in the first of these ways that keeps the picture's shape: by the
/// pixels' alone; by the width, at the height that is nearest to the known one; by the height, at the
/// width that is. Where none does, the one that comes nearest.
fn keeping_shape(known: &Shape, mut other: gst::Structure) -> gst::Structure {
    let wide_open = side(&other, WIDTH).is_none();
    let high_open = side(&other, HEIGHT).is_none();
    let mut as_it_was = None;
    if pixel(&other).is_none() {
        let mut attempt = other.clone();
        let sides = (
            near(&mut attempt, WIDTH, known.extent.width),
            near(&mut attempt, HEIGHT, known.extent.height),
        );
        let (Some(width), Some(height)) = sides else { return other };
        let wanted = known.seen().over(Ratio::new(width.into(), height.into()));
        attempt.fixate_field_nearest_fraction(PIXEL, wanted.fraction());
        let found = pixel(&attempt);
        if found == Some(wanted) || !(wide_open || high_open) {
            return attempt;
        }
        if let Some(found) = found {
            other.set(PIXEL, found.fraction());
        }
        as_it_was = (wide_open && high_open).then_some(attempt);
    }
    // Width to height in pixels of that shape.
    let ratio = known.seen().over(pixel(&other).unwrap_or(SQUARE));
    let by_width = wide_open.then(|| {
        let Extent { height, .. } = known.extent;
        by(other.clone(), (HEIGHT, height), (WIDTH, ratio))
    });
    let by_height = high_open.then(|| {
        let Extent { width, .. } = known.extent;
        by(other.clone(), (WIDTH, width), (HEIGHT, Ratio::ONE.over(ratio)))
    });
    match (by_width.flatten(), by_height.flatten()) {
        (Some((structure, 0)), _) | (_, Some((structure, 0))) => structure,
        (Some((structure, _)), None) | (None, Some((structure, _))) => structure,
        (Some((wide, off_wide)), Some((high, off_high))) => {
            as_it_was.unwrap_or(if off_high < off_wide { high } else { wide })
        }
        (None, None) => other,
    }
}

/// Fixes one side as near to that as may be, and the other by a ratio to it. With it, by how many
/// pixels the picture's shape is missed.
fn by(
    mut structure: gst::Structure,
    (kept, length): (&str, u32),
    (scaled, ratio): (&str, Ratio),
) -> Option<(gst::Structure, u64)> {
    let length = near(&mut structure, kept, length)?;
    let wanted = ratio.of_side(length);
    let found = near(&mut structure, scaled, wanted)?;
    Some((structure, u64::from(found.abs_diff(wanted)) * u64::from(length)))
}
