//! Owns the drawing of curves over two axes, as HTML with SVG in it. Knows nothing of what they show.
//!
//! The curves are an SVG that is stretched over the plotting area. Words are HTML beside it, so
//! they are as large on a phone as on a desk.

use std::fmt::Write;

use super::Text;

/// Length of the sides of an area in the numbers of its SVG.
const SIDE: f64 = 1000.0;

/// Colours of curves, each of which can be told from white and from black; a page's style has as many.
const COLOURS: usize = 8;

/// A picture of curves.
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    /// What lies along the axes.
    pub(crate) note: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) curves: Vec<Curve>,
}

/// One curve of a plot.
pub(crate) struct Curve {
    /// Counted from zero: each has a colour and a dash of its own.
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// From a value to a place along the area, and what is written there.
pub(crate) struct Axis {
    scale: Scale,
    marks: Vec<(f64, String)>,
}

enum Scale {
    /// From zero to this.
    Linear(f64),
    /// Shares of a whole, by how few are left: 0.9 is as far from 0.99 as that from 0.999. So many
    /// powers of ten.
    Shares(f64),
}

impl Axis {
    /// From zero to `end`, with about `count` marks at round numbers.
    pub(crate) fn linear(end: f64, count: usize, unit: &str) -> Self {
        let end = if end > 0.0 { end } else { 1.0 };
        Self::in_steps(end, round_step(end / count as f64), unit)
    }

    /// As [`linear`](Self::linear), but longer, so that it ends with a mark.
    pub(crate) fn linear_up(end: f64, count: usize, unit: &str) -> Self {
        let end = if end > 0.0 { end } else { 1.0 };
        let step = round_step(end / count as f64);
        Self::in_steps((end * 1.02 / step).ceil() * step, step, unit)
    }

    fn in_steps(end: f64, step: f64, unit: &str) -> Self {
        let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let marks =
            (0..).map(|n| f64::from(n) * step).take_while(|value| *value <= end * 1.000_001);
        let marks = marks.map(|value| (value, format!("{value:.digits$}{unit}"))).collect();
        Self { scale: Scale::Linear(end), marks }
    }

    /// Shares of so many, from none to all.
    pub(crate) fn shares(of: u64) -> Self {
        let powers = (of.max(10) as f64).log10();
        let marks = [(0.0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
        // Not where there is no room before the end.
        let fits = |share: f64| -(1.0 - share).log10() < 0.8 * powers;
        let marks = marks.into_iter().filter(|&(share, _)| fits(share)).chain([(1.0, "max")]);
        let marks = marks.map(|(share, name)| (share, name.to_owned())).collect();
        Self { scale: Scale::Shares(powers), marks }
    }

    /// Shares that lie evenly along an axis of [shares](Self::shares), without the first and the
    /// last of all.
    pub(crate) fn even_shares(of: u64, count: u32) -> impl Iterator<Item = f64> {
        let powers = (of.max(10) as f64).log10();
        (1..count).map(move |n| 1.0 - 10_f64.powf(-powers * f64::from(n) / f64::from(count)))
    }

    /// Where a value lies: from zero to one.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear(end) => value / end,
            Scale::Shares(_) if value >= 1.0 => 1.0,
            Scale::Shares(powers) => (1.0 / (1.0 - value)).log10() / powers,
        }
        .clamp(0.0, 1.0)
    }
}

/// The least of 1, 2, 5, 10, 20, ... that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|times| times * power >= least * 0.999_999);
    times.unwrap_or(10.0) * power
}

impl Plot {
    pub(crate) fn html(&self) -> String {
        let (title, note) = (Text(self.title), Text(self.note));
        let mut html =
            format!("<figure>\n<figcaption><h2>{title}</h2><p>{note}</p></figcaption>\n");
        html += "<div class=\"plot\">\n<div class=\"y\">";
        for (value, text) in &self.y.marks {
            let up = 100.0 * self.y.place(*value);
            let _ = write!(html, "<span style=\"bottom:{up:.2}%\">{}</span>", Text(text));
        }
        let _ = write!(
            html,
            "</div>\n<svg class=\"area\" viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" \
             role=\"img\" aria-label=\"{title}\">\n"
        );
        for (value, _) in &self.y.marks {
            let down = SIDE * (1.0 - self.y.place(*value));
            let _ = writeln!(html, "<path class=\"grid\" d=\"M0 {down:.1}H{SIDE}\"/>");
        }
        for curve in &self.curves {
            html += &self.curve(curve);
        }
        html += "</svg>\n<div class=\"x\">";
        for (value, text) in &self.x.marks {
            let right = 100.0 * self.x.place(*value);
            // Words at the ends stay within them.
            let class = match right {
                ..3.0 => " class=\"first\"",
                97.0.. => " class=\"last\"",
                _ => "",
            };
            let _ = write!(html, "<span{class} style=\"left:{right:.2}%\">{}</span>", Text(text));
        }
        html += "</div>\n</div>\n<p class=\"legend\">";
        for curve in &self.curves {
            let _ = write!(html, "<span>{}{}</span> ", swatch(curve.index), Text(&curve.name));
        }
        html + "</p>\n</figure>\n"
    }

    fn curve(&self, curve: &Curve) -> String {
        let mut line = String::new();
        for &(x, y) in &curve.points {
            let (right, down) = (SIDE * self.x.place(x), SIDE * (1.0 - self.y.place(y)));
            let _ = write!(line, "{}{right:.1} {down:.1}", if line.is_empty() { 'M' } else { 'L' });
        }
        let (class, name) = (class(curve.index), Text(&curve.name));
        format!("<path class=\"curve {class}\" d=\"{line}\"><title>{name}</title></path>\n")
    }
}

/// A sample of the colour and the dash of a curve.
pub(crate) fn swatch(index: usize) -> String {
    let class = class(index);
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 22 8\" aria-hidden=\"true\">\
         <path class=\"curve {class}\" d=\"M0 4H22\"/></svg>"
    )
}

/// Colours repeat with another dash.
fn class(index: usize) -> String {
    let (colour, dash) = (index % COLOURS, index / COLOURS % 4);
    format!("c{colour} d{dash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(marks(&Axis::linear(10.0, 5, "")), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            marks(&Axis::linear(2.7, 6, " s")),
            ["0.0 s", "0.5 s", "1.0 s", "1.5 s", "2.0 s", "2.5 s"]
        );
        assert_eq!(marks(&Axis::linear(0.1, 2, "")), ["0.00", "0.05", "0.10"]);
        assert_eq!(marks(&Axis::linear(0.0, 1, "")), ["0", "1"]);
        assert_eq!(marks(&Axis::linear_up(990.0, 4, "")), ["0", "500", "1000", "1500"]);
        assert_eq!(marks(&Axis::linear_up(1234.0, 5, "")), ["0", "500", "1000", "1500"]);
        assert_eq!(
            marks(&Axis::linear_up(99.0, 5, "")),
            ["0", "20", "40", "60", "80", "100", "120"]
        );
        assert_eq!(marks(&Axis::linear_up(0.0, 1, "")), ["0", "1", "2"]);
    }

    #[test]
    fn shares_lie_by_what_they_leave() {
        let axis = Axis::shares(1000);
        assert_eq!(marks(&axis), ["0", "p50", "p90", "p99", "max"]);
        assert!(
            (axis.place(0.9) - 1.0 / 3.0).abs() < 1e-9
                && (axis.place(0.99) - 2.0 / 3.0).abs() < 1e-9
        );
        assert_eq!((axis.place(0.0), axis.place(1.0), axis.place(0.999_999)), (0.0, 1.0, 1.0));
        assert_eq!(marks(&Axis::shares(0)), ["0", "p50", "max"]);
        let even: Vec<f64> =
            Axis::even_shares(1000, 30).map(|share| 30.0 * axis.place(share)).collect();
        assert_eq!(even.len(), 29);
        assert!((1..).zip(even).all(|(n, place)| (place - f64::from(n)).abs() < 1e-6));
    }

    #[test]
    fn curves_stay_within_the_area() {
        let plot = Plot {
            title: "title",
            note: "note",
            x: Axis::linear(2.0, 2, ""),
            y: Axis::linear(10.0, 2, ""),
            curves: vec![Curve {
                index: 9,
                name: "<b>".into(),
                points: vec![(0.0, 0.0), (1.0, 5.0), (3.0, 50.0)],
            }],
        };
        let html = plot.html();
        assert!(
            html.contains("<path class=\"curve c1 d1\" d=\"M0.0 1000.0L500.0 500.0L1000.0 0.0\">"),
            "{html}"
        );
        assert!(html.contains("&lt;b&gt;") && !html.contains("<b>"), "{html}");
    }
}
