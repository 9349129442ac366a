//! The page of a run, as it looks in a browser.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bench::Bench;
use crate::browser::{View, Window};
use crate::{MOVING, stdout};

/// Everything there is to see of a page, on a desk.
const DESK: Window = Window { width: 1000, height: 2600, dark: false };
const NIGHT: Window = Window { dark: true, ..DESK };
const PHONE: Window = Window { width: 390, height: 3600, dark: false };

/// Left, top, right and bottom, in pixels.
type Area = [f64; 4];

/// A page as a browser lays it out and paints it.
struct Seen(View);

impl Seen {
    fn through(window: Window, page: &Path) -> Option<Self> {
        let view = window.view(page)?;
        assert_eq!(view.complaints, [""; 0]);
        let size = [window.width, window.height].map(f64::from);
        assert_eq!(numbers(&view.found["inner"]), size);
        let whole = numbers(&view.found["whole"]);
        assert!(whole[0] <= window.width.into(), "wider than its window: {whole:?}");
        assert!(whole[1] <= window.height.into(), "not seen as a whole: {whole:?}");
        Some(Self(view))
    }

    fn plots(&self) -> &[Value] {
        self.0.found["plots"].as_array().unwrap()
    }

    /// Pixels of exactly this colour.
    fn pixels(&self, colour: [u8; 3]) -> Vec<(f64, f64)> {
        let pixels = self.0.picture.enumerate_pixels();
        let same = pixels.filter(|(_, _, pixel)| pixel.0 == colour);
        same.map(|(x, y, _)| (f64::from(x) + 0.5, f64::from(y) + 0.5)).collect()
    }
}

/// Where a curve is in each column of an area that has any of it.
struct Line {
    /// Pixels from the left of the area.
    columns: Vec<f64>,
    /// The middle of what there is in each.
    heights: Vec<f64>,
}

impl Line {
    fn of(pixels: &[(f64, f64)], area: Area) -> Self {
        let mut line = Self { columns: Vec::new(), heights: Vec::new() };
        let mut within: Vec<_> = pixels.iter().filter(|pixel| inside(**pixel, area)).collect();
        within.sort_by(|one, other| one.0.total_cmp(&other.0));
        for column in within.chunk_by(|one, other| one.0 == other.0) {
            line.columns.push(column[0].0 - area[0]);
            let middle = column.iter().map(|pixel| pixel.1).sum::<f64>() / column.len() as f64;
            line.heights.push(middle);
        }
        line
    }
}

fn inside((x, y): (f64, f64), [left, top, right, bottom]: Area) -> bool {
    // An edge may be between two pixels.
    x > left - 1.0 && x < right + 1.0 && y > top - 1.0 && y < bottom + 1.0
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn area(value: &Value) -> Area {
    let [left, top, width, height] = numbers(value)[..] else { panic!("{value}") };
    [left, top, left + width, top + height]
}

fn colour(value: &Value) -> [u8; 3] {
    let text = value.as_str().unwrap().trim_start_matches("rgb(").trim_end_matches(')');
    let samples: Vec<_> = text.split(',').map(|sample| sample.trim().parse().unwrap()).collect();
    samples.try_into().unwrap()
}

/// What the marks of an upright axis say of a height.
fn value_at(plot: &Value, height: f64) -> f64 {
    let marks = plot["y"].as_array().unwrap();
    let mark = |mark: &Value| {
        let [_, top, _, bottom] = area(&mark[1]);
        (mark[0].as_str().unwrap().parse::<f64>().unwrap(), (top + bottom) / 2.0)
    };
    let ((low, below), (high, above)) = (mark(&marks[0]), mark(marks.last().unwrap()));
    low + (below - height) / (below - above) * (high - low)
}

#[test]
fn a_report_draws_what_happened() {
    let bench = Bench::new();
    // Its name is text, whatever it is.
    let name = "<b>a&amp;\"'.mkv";
    let clip = bench.clip(name, MOVING, "-frames:v 400 -c:v mpeg4");
    let options = "-n 3 -m 0.4 -s 64x48 --report report.html --json figures.json";
    let text = stdout(&bench.run(&[&clip], options));
    assert_eq!(text.lines().last(), Some("the report is report.html"), "{text}");
    let figures = fs::read(bench.path("figures.json")).unwrap();
    let figures: Value = serde_json::from_slice(&figures).unwrap();
    let page = bench.path("report.html");
    let html = fs::read_to_string(&page).unwrap();
    for outside in ["http:", "https:", "//", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.contains("Stopped") && html.contains("<td>100.0 %</td><td>1200</td>"), "{html}");

    for window in [DESK, NIGHT, PHONE] {
        let Some(seen) = Seen::through(window, &page) else { return };
        let heading = format!("3 copies of {name} to 64x48");
        assert_eq!(seen.0.found["heading"], heading);
        let title = seen.0.found["title"].as_str().unwrap();
        let rate = title.strip_prefix(&format!("{heading}: ")).expect(title);
        let rate: f64 = rate.strip_suffix(" frames a second").expect(title).parse().unwrap();
        assert!((rate - figures["total"]["fps"].as_f64().unwrap()).abs() <= 0.5, "{title}");

        let paper = seen.0.picture.get_pixel(1, 1).0;
        assert_eq!(paper, colour(&seen.0.found["paper"]));
        assert_eq!(paper[0] < 64, window.dark, "{paper:?}");

        assert_eq!(seen.plots().len(), 3);
        let colours = ["#2f7fd6", "#d0700c", "#2b9a58"]
            .map(|text| [1, 3, 5].map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()));
        for plot in seen.plots() {
            let drawn: Vec<_> = plot["colours"].as_array().unwrap().iter().map(colour).collect();
            assert_eq!(drawn, colours);
            // As large as words elsewhere, and with room for the curves.
            assert!(plot["font"].as_f64().unwrap() >= 11.0);
            let [left, top, right, bottom] = area(&plot["area"]);
            assert!(right - left > 0.7 * f64::from(window.width) && bottom - top > 200.0);
        }
        let areas = seen.plots().iter().map(|plot| area(&plot["area"]));
        let swatches = seen.0.found["swatches"].as_array().unwrap().iter().map(area);
        let places: Vec<Area> = areas.chain(swatches).collect();
        for (index, colour) in colours.into_iter().enumerate() {
            let pixels = seen.pixels(colour);
            let lost =
                pixels.iter().find(|pixel| !places.iter().any(|place| inside(**pixel, *place)));
            assert_eq!(lost, None, "a pixel of instance {} that is in no plot", index + 1);
            check_pace(&seen.plots()[0], &pixels, index, &figures);
            for plot in &seen.plots()[1..] {
                check_times(plot, &pixels, index);
            }
        }
        // One device did it all: as long as its cell is wide.
        let bars = seen.0.found["bars"].as_array().unwrap();
        let [left, _, right, _] = area(&bars[0]);
        let cell = area(&seen.0.found["cells"][0]);
        assert!(bars.len() == 1 && right - left > 0.8 * (cell[2] - cell[0]), "{left} to {right}");
    }
}

/// Frames a second over time: from the start of the instance to its end, and as many frames as it
/// wrote.
fn check_pace(plot: &Value, pixels: &[(f64, f64)], index: usize, figures: &Value) {
    let row = &figures["instances"][index];
    let number = |value: &Value| value.as_f64().unwrap();
    let (area, whole) = (area(&plot["area"]), number(&figures["total"]["seconds"]));
    let line = Line::of(pixels, area);
    let place = |seconds: f64| seconds / whole * (area[2] - area[0]);
    let start = place(number(&row["started_s"]));
    let end = place(number(&row["started_s"]) + number(&row["seconds"]));
    let (first, last) = (line.columns[0], *line.columns.last().unwrap());
    assert!((first - start).abs() <= 3.0, "instance {} begins at {first}, not {start}", index + 1);
    assert!(last <= end + 3.0, "instance {} ends at {last}, not {end}", index + 1);
    if index == 2 {
        // Drawn last, so nothing lies over it.
        assert!(last >= end - 3.0, "it ends at {last}, not {end}");
        assert!(line.columns.len() as f64 > 0.9 * (end - start), "{} columns", line.columns.len());
        let sum: f64 = line.heights.iter().map(|height| value_at(plot, *height)).sum();
        let (mean, rate) = (sum / line.heights.len() as f64, number(&row["fps"]));
        assert!((mean / rate - 1.0).abs() < 0.1, "{mean} frames a second drawn, {rate} counted");
    }
}

/// Milliseconds over shares of frames: never less for more frames.
fn check_times(plot: &Value, pixels: &[(f64, f64)], index: usize) {
    let area = area(&plot["area"]);
    let line = Line::of(pixels, area);
    // The others may lie under it from end to end, where times were alike.
    if index == 2 {
        assert!(
            line.columns.len() as f64 > 0.9 * (area[2] - area[0]),
            "{} columns",
            line.columns.len()
        );
        assert!(line.heights.is_sorted_by(|one, next| *next <= one + 2.0), "{:?}", line.heights);
    }
}

#[test]
fn the_browser_would_say_if_a_page_asked_for_more() {
    let bench = Bench::new();
    let page = bench.path("page.html");
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\">";
    let asking = "<img src=\"http://127.0.0.1:9/x.png\"><script>1</script>";
    fs::write(&page, format!("<!DOCTYPE html>{policy}<title>x</title>{asking}")).unwrap();
    let Some(View { complaints, .. }) = DESK.view(&page) else { return };
    for what in ["x.png", "script"] {
        assert!(complaints.iter().any(|line| line.contains(what)), "{what}: {complaints:?}");
    }
}
