//! Owns what a shader can be: which of them, and the constants that it is compiled with.
//!
//! Knows the kinds of samples and numbers, not what they are of. Invariant: every value is one that
//! a program may have, and all of them are tested on a GPU before it is used.

use crate::device::plan::{Number, Samples};

/// A shader with its specialization constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Variant {
    VerticalFirst(Samples),
    HorizontalSecond(Made),
    HorizontalFirst(Form),
    VerticalSecond(Made),
    Copy,
    Mix(Number, Packing),
}

/// `FORM` in `horizontal_first.comp`: what words are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Form {
    /// Windows of bytes, of channels that are interleaved.
    Gather,
    /// Windows of words.
    Words(Samples),
    /// Words as they are.
    Widen(Samples),
    /// Windows of bytes that follow each other, each from a whole element on.
    Aligned,
}

/// `FORM` in the passes that come second: what they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Made {
    /// Samples of a plane.
    Plane,
    /// Words, to be mixed.
    Lines,
}

/// `DENSE` in `mix.comp`: how rows and planes follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Packing {
    /// Each row begins with an element.
    Rows,
    /// Without a gap.
    Dense,
}

impl Variant {
    /// The code, in SPIR-V.
    pub(super) const fn code(self) -> &'static [u8] {
        match self {
            Self::VerticalFirst(_) => include_bytes!("../shaders/vertical_first.spv"),
            Self::HorizontalSecond(_) => include_bytes!("../shaders/horizontal_second.spv"),
            Self::HorizontalFirst(_) => include_bytes!("../shaders/horizontal_first.spv"),
            Self::VerticalSecond(_) => include_bytes!("../shaders/vertical_second.spv"),
            Self::Copy => include_bytes!("../shaders/copy.spv"),
            Self::Mix(..) => include_bytes!("../shaders/mix.spv"),
        }
    }

    /// The constants with the numbers 0 and 1; a shader may have fewer.
    pub(super) const fn constants(self) -> [u32; 2] {
        match self {
            Self::Copy => [0, 0],
            Self::VerticalFirst(kind) => [0, samples(kind)],
            Self::HorizontalFirst(Form::Gather) => [0, samples(Samples::Bytes)],
            Self::HorizontalFirst(Form::Words(kind)) => [1, samples(kind)],
            Self::HorizontalFirst(Form::Widen(kind)) => [2, samples(kind)],
            Self::HorizontalFirst(Form::Aligned) => [3, samples(Samples::Bytes)],
            Self::HorizontalSecond(made) | Self::VerticalSecond(made) => match made {
                Made::Plane => [0, 0],
                Made::Lines => [1, 0],
            },
            Self::Mix(kind, Packing::Rows) => [number(kind), 0],
            Self::Mix(kind, Packing::Dense) => [number(kind), 1],
        }
    }

    /// All that there are.
    #[cfg(test)]
    pub(in super::super) fn all() -> Vec<Self> {
        let kinds = [Samples::Bytes, Samples::LowTen, Samples::HighTen, Samples::Weighed];
        let of_kinds = kinds.into_iter().flat_map(|kind| {
            let forms = [Form::Words(kind), Form::Widen(kind)].map(Self::HorizontalFirst);
            forms.into_iter().chain([Self::VerticalFirst(kind)])
        });
        let forms = [Form::Gather, Form::Aligned].map(Self::HorizontalFirst);
        let seconds = [Made::Plane, Made::Lines]
            .into_iter()
            .flat_map(|made| [Self::HorizontalSecond(made), Self::VerticalSecond(made)]);
        let rows = [Number::U8, Number::LowTen, Number::HighTen];
        let dense = [Number::I8, Number::F16, Number::F32];
        let mixes = rows.map(|number| Self::Mix(number, Packing::Rows)).into_iter();
        let mixes = mixes.chain(dense.map(|number| Self::Mix(number, Packing::Dense)));
        of_kinds.chain(forms).chain(seconds).chain(mixes).chain([Self::Copy]).collect()
    }
}

/// `SAMPLES` in `samples.glsl`.
const fn samples(samples: Samples) -> u32 {
    match samples {
        Samples::Bytes => 0,
        Samples::LowTen => 1,
        Samples::HighTen => 2,
        Samples::Weighed => 3,
    }
}

/// `NUMBER` in `mix.comp`.
const fn number(number: Number) -> u32 {
    match number {
        Number::U8 => 0,
        Number::I8 => 1,
        Number::F16 => 2,
        Number::F32 => 3,
        Number::LowTen => 4,
        Number::HighTen => 5,
    }
}
