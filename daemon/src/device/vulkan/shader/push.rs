//! Owns the numbers that are pushed to a shader for a dispatch.
//!
//! Knows their order, not what they are of a stream. `PushConstants` in `shaders/common.glsl` says
//! what each is; a test compares.

use bytemuck::AnyBitPattern;

/// As the shaders have them.
#[derive(Clone, Copy, Debug, Default, AnyBitPattern)]
#[repr(C)]
pub(in super::super) struct PushConstants {
    pub(in super::super) from: u32,
    pub(in super::super) from_pitch: u32,
    pub(in super::super) to: u32,
    pub(in super::super) to_pitch: u32,
    pub(in super::super) width: u32,
    pub(in super::super) rows: u32,
    pub(in super::super) samples: u32,
    pub(in super::super) first: u32,
    pub(in super::super) first_row: u32,
    pub(in super::super) starts: u32,
    pub(in super::super) weights: u32,
    pub(in super::super) count: u32,
    pub(in super::super) step: u32,
    pub(in super::super) constants: u32,
    pub(in super::super) fraction_bits: u32,
    pub(in super::super) row_samples: u32,
    pub(in super::super) left: u32,
    pub(in super::super) right: u32,
    pub(in super::super) top: u32,
    pub(in super::super) bottom: u32,
    pub(in super::super) padding: u32,
    pub(in super::super) channels: u32,
    pub(in super::super) places: u32,
    pub(in super::super) place_count: u32,
    pub(in super::super) sums: u32,
    pub(in super::super) weight: u32,
    pub(in super::super) plane: u32,
    pub(in super::super) planes: u32,
    pub(in super::super) plane_rows: u32,
}

/// Every device takes as many bytes.
const _: () = assert!(size_of::<PushConstants>() <= 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shaders_have_the_same_numbers_in_the_same_order() {
        let source = include_str!("../shaders/common.glsl");
        let (_, block) = source.split_once("uniform PushConstants {").unwrap();
        let (block, _) = block.split_once('}').unwrap();
        let theirs = block.lines().filter_map(|line| line.trim().strip_prefix("uint "));
        let theirs: Vec<_> = theirs.map(|line| line.trim_end_matches(';')).collect();
        let ours = format!("{:?}", PushConstants::default());
        let (_, fields) = ours.trim_end_matches(" }").split_once("{ ").unwrap();
        let ours: Vec<_> = fields.split(", ").map(|field| field.trim_end_matches(": 0")).collect();
        assert_eq!(ours, theirs);
        assert_eq!(size_of::<PushConstants>(), ours.len() * size_of::<u32>());
    }
}
