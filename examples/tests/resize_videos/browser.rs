//! Owns a browser without a screen: what a page looks like in it, where its parts are, and what it
//! complains of.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use image::RgbImage;
use serde_json::Value;
use tempfile::TempDir;

use crate::skip::skip;

/// Seconds that a look may take.
const PATIENCE: &str = "120";

/// Looks until a browser that crashes counts as one that can't stand the page. Chromium is seen to
/// die as it starts, once in many hundreds of times, and says nothing of why.
const LOOKS: u32 = 3;

/// What it is called on one system or another.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The page goes into a frame of the window's size, since browsers have a least width and bars of
/// their own. What is found there is written behind it: boxes as left, top, width and height.
const FRAME: &str = r#"<!DOCTYPE html>
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<style>body { margin: 0 } iframe { border: 0; display: block }</style>
<script>
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, view = frame.contentWindow;
  const box = one => { const r = one.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; };
  const boxes = name => [...page.querySelectorAll(name)].map(box);
  const style = one => view.getComputedStyle(one);
  const marks = (plot, axis) => [...plot.querySelectorAll(axis + " span")].map(one => [one.textContent, box(one)]);
  const found = {
    title: page.title,
    heading: page.querySelector("h1")?.textContent,
    inner: [view.innerWidth, view.innerHeight],
    whole: [page.documentElement.scrollWidth, page.documentElement.scrollHeight],
    paper: style(page.body).backgroundColor,
    plots: [...page.querySelectorAll(".plot")].map(plot => ({
      area: box(plot.querySelector(".area")), x: marks(plot, ".x"), y: marks(plot, ".y"),
      colours: [...plot.querySelectorAll(".curve")].map(curve => style(curve).stroke),
      font: parseFloat(style(plot.querySelector(".y span")).fontSize),
    })),
    swatches: boxes(".swatch"),
    cells: boxes(".share"),
    bars: boxes(".share span"),
  };
  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = encodeURIComponent(JSON.stringify(found)); // HTML leaves that as it is
  document.body.append(pre);
});
</script>
"#;

/// A window to look through.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

/// What is seen through it.
pub(crate) struct View {
    pub(crate) picture: RgbImage,
    /// Where the parts of the page are.
    pub(crate) found: Value,
    /// What the browser says of the page: errors, and whatever was refused.
    pub(crate) complaints: Vec<String>,
}

impl Window {
    /// How the page looks; `None` where there is no browser.
    pub(crate) fn view(self, page: &Path) -> Option<View> {
        let folder = tempfile::tempdir().unwrap();
        let (framed, picture) = (folder.path().join("framed.html"), folder.path().join("view.png"));
        let html = fs::read_to_string(page).unwrap().replace('&', "&amp;").replace('"', "&quot;");
        let Self { width, height, .. } = self;
        let frame = format!("<iframe width={width} height={height} srcdoc=\"{html}\"></iframe>");
        fs::write(&framed, [FRAME, &frame].concat()).unwrap();
        let output = self.browse(&folder, &framed, &picture)?;

        let said = String::from_utf8_lossy(&output.stderr);
        let complaints = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned);
        let complaints = complaints.collect();
        let bytes = fs::read(&picture).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let picture = image::load_from_memory(&bytes).unwrap().into_rgb8();
        let picture = image::imageops::crop_imm(&picture, 0, 0, width, height).to_image();
        assert_eq!(picture.dimensions(), (width, height));
        let dom = String::from_utf8_lossy(&output.stdout);
        let found = dom.split_once("<pre id=\"found\">").unwrap_or_else(|| panic!("{output:?}")).1;
        let found = serde_json::from_slice(&decoded(found.split('<').next().unwrap())).unwrap();
        Some(View { picture, found, complaints })
    }

    fn browse(self, folder: &TempDir, page: &Path, picture: &Path) -> Option<Output> {
        // The sandbox is not for root, as whom tests may run; the page is our own.
        let fixed = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                     --disable-background-networking --disable-component-update --hide-scrollbars \
                     --force-device-scale-factor=1 --force-color-profile=srgb --enable-logging=stderr";
        let look = |name: &str| {
            Command::new("timeout")
                .args(["--kill-after=5", PATIENCE, name])
                .args(fixed.split_whitespace())
                .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
                .arg(format!("--window-size={},{}", self.width.max(500), self.height + 200))
                .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!self.dark)))
                .arg(format!("--screenshot={}", picture.display()))
                .arg("--dump-dom")
                .arg(format!("file://{}", page.display()))
                .env("HOME", folder.path())
                .output()
                .unwrap()
        };
        for name in NAMES {
            let crashed = |output: &Output| output.status.signal().is_some();
            let mut output = look(name);
            for _ in 1..LOOKS {
                if crashed(&output) {
                    eprintln!("{name} crashed: {output:?}");
                    output = look(name);
                }
            }
            match output.status.code() {
                Some(0) => return Some(output),
                Some(127) => {} // there is none of that name
                _ => panic!("{name}: {output:?}"),
            }
        }
        skip("browser", "there is no browser to look at pages: chromium, say");
        None
    }
}

/// What JavaScript's encodeURIComponent was given.
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let (byte, after) = match first {
            b'%' => {
                (u8::from_str_radix(str::from_utf8(&tail[..2]).unwrap(), 16).unwrap(), &tail[2..])
            }
            plain => (*plain, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}
