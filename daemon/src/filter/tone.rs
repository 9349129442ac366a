//! Owns what becomes of a sample's value between two nominal ranges (ITU-T H.273, section 8.3).
//!
//! Knows one value, not where it lies. Alpha never changes.

use resized_protocol::frame::{Component, Range};

/// A destination value is `gain` x source value + `bias`, in steps of 8-bit samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tone {
    /// Factor; folded into the weights of the last pass.
    pub(crate) gain: f64,
    /// Summand; folded into the constant by which the last pass rounds.
    pub(crate) bias: f64,
}

impl Tone {
    /// From one range to another.
    pub(crate) fn new(component: Component, from: Range, to: Range) -> Self {
        let ((from_zero, from_span), (to_zero, to_span)) =
            (nominal(component, from), nominal(component, to));
        let gain = to_span / from_span;
        Self { gain, bias: to_zero - from_zero * gain }
    }
}

/// The value that means zero, and how many steps the nominal range has.
const fn nominal(component: Component, range: Range) -> (f64, f64) {
    match (component, range) {
        (Component::Alpha, _) | (Component::Luma | Component::Colour, Range::Full) => (0.0, 255.0),
        (Component::Luma | Component::Colour, Range::Limited) => (16.0, 219.0),
        (Component::Chroma, Range::Full) => (128.0, 255.0),
        (Component::Chroma, Range::Limited) => (128.0, 224.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(component: Component, from: Range, to: Range, value: f64) -> f64 {
        let tone = Tone::new(component, from, to);
        value * tone.gain + tone.bias
    }

    #[test]
    fn ends_of_a_range_become_ends_of_the_other() {
        use Component::{Chroma, Colour, Luma};
        for (component, limited, full) in [
            (Luma, 16.0, 0.0),
            (Luma, 235.0, 255.0),
            (Colour, 16.0, 0.0),
            (Colour, 235.0, 255.0),
            (Chroma, 128.0, 128.0),
            (Chroma, 16.0, 0.5),
            (Chroma, 240.0, 255.5),
        ] {
            let (up, down) = (
                converted(component, Range::Limited, Range::Full, limited),
                converted(component, Range::Full, Range::Limited, full),
            );
            assert!((up - full).abs() < 1e-9 && (down - limited).abs() < 1e-9, "{up} {down}");
        }
    }

    #[test]
    fn alpha_and_equal_ranges_change_nothing() {
        let same = Tone { gain: 1.0, bias: 0.0 };
        assert_eq!(Tone::new(Component::Alpha, Range::Limited, Range::Full), same);
        for component in [Component::Luma, Component::Chroma, Component::Colour] {
            assert_eq!(Tone::new(component, Range::Limited, Range::Limited), same);
        }
    }
}
