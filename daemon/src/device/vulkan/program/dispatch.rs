//! Owns what a shader is run for: its variant, its numbers, and how many work groups there are.
//!
//! Knows how many rows and columns an invocation makes; no plan.

use super::super::shader::{Packing, PushConstants, Variant};

/// Invocations in a work group: `local_size_x` of the shaders.
const GROUP: u64 = 64;

/// Rows that an invocation makes of `horizontal_first.comp`.
const ROWS: u32 = 4;

/// Columns that an invocation makes of `vertical_first.comp`.
pub(super) const COLUMNS: usize = 4;

/// Work groups in a row of them, where a plane is one long row: every device takes as many.
const MOST_GROUPS: u64 = 1 << 15;

/// One shader's work.
#[derive(Debug)]
pub(in super::super) struct Dispatch {
    pub(in super::super) variant: Variant,
    pub(in super::super) constants: PushConstants,
    pub(in super::super) groups: [u32; 3],
}

/// Lines of words between two passes: where the first one starts, and elements from one to the next.
#[derive(Clone, Copy, Default)]
pub(super) struct Lines {
    pub(super) first: u32,
    pub(super) pitch: u32,
}

impl Dispatch {
    /// Has the rows made that the numbers say.
    pub(super) fn rows(variant: Variant, constants: PushConstants) -> Self {
        let each = if matches!(variant, Variant::HorizontalFirst(_)) { ROWS } else { 1 };
        let across = u64::from(constants.width).div_ceil(GROUP) as u32;
        Self { variant, constants, groups: [across, constants.rows.div_ceil(each), 1] }
    }

    /// Has so many bytes made, of rows and planes that follow each other without a gap.
    pub(super) fn dense(variant: Variant, constants: PushConstants, bytes: u64) -> Self {
        debug_assert!(matches!(variant, Variant::Mix(_, Packing::Dense)));
        let groups = bytes.div_ceil(4).div_ceil(GROUP);
        let across = groups.min(MOST_GROUPS);
        Self { variant, constants, groups: [across as u32, groups.div_ceil(across) as u32, 1] }
    }
}
