//! Whether pictures look like the video that they come from.

use std::path::Path;

use crate::bench::{Bench, ffmpeg_pictures, filtered_pictures, frame_names, turned};

/// Least likeness to FFmpeg's bicubic scaler, in decibels. They differ in the cubic (its C is 0.6,
/// Catmull-Rom's 0.5), and these pictures have been JPEG files of quality 95, with halved chroma:
/// FFmpeg's own JPEG files of the clips below are 36 dB away from its scaler.
const LIKENESS: f64 = 33.0;

/// The same for brightness, which is not halved; FFmpeg's own are 47 dB away.
const LUMA_LIKENESS: f64 = 42.0;

/// The Mandelbrot set: fine detail, but no finer than halved chroma can hold.
const DETAILED: &str = "mandelbrot=size=320x240:start_scale=0.5,gblur=sigma=2";

/// Resizes a clip and compares every picture with FFmpeg's.
fn compare(bench: &Bench, name: &str, lavfi: &str, options: &str, (width, height): (usize, usize)) {
    let clip = bench.clip(name, lavfi, options);
    compare_clip(bench, name, &clip, (width, height));
}

fn compare_clip(bench: &Bench, name: &str, clip: &Path, (width, height): (usize, usize)) {
    let run = bench.run(&[clip], &format!("-n 1 --quality 95 -s {width}x{height}"));
    assert!(run.status.success(), "{name}: {run:?}");
    let expected = ffmpeg_pictures(clip, width, height);
    assert_eq!(bench.names(1), frame_names(expected.len()), "{name}");
    for (number, expected) in (1..).zip(&expected) {
        let picture = bench.picture(1, number);
        let (all, luma) = (picture.psnr(expected), picture.luma_psnr(expected));
        assert!(
            all > LIKENESS && luma > LUMA_LIKENESS,
            "{name}, frame {number}: {all:.1} dB, luma {luma:.1} dB"
        );
    }
}

#[test]
fn pictures_look_like_ffmpegs_whatever_the_format() {
    let bench = Bench::new();
    for (name, options) in [
        ("i420.mkv", "-c:v ffv1 -pix_fmt yuv420p"),
        ("coded.mp4", "-c:v mpeg4 -q:v 2"),
        ("hd.mkv", "-c:v ffv1 -pix_fmt yuv420p -vf scale=out_color_matrix=bt709 -colorspace bt709"),
        ("full.avi", "-c:v mjpeg -q:v 1 -pix_fmt yuvj420p"),
        ("full422.avi", "-c:v mjpeg -q:v 1 -pix_fmt yuvj422p"),
        ("gray.mkv", "-c:v ffv1 -pix_fmt gray"),
        ("gray16.mkv", "-c:v ffv1 -pix_fmt gray16le"),
        ("i444.mkv", "-c:v ffv1 -pix_fmt yuv444p"),
        ("i444-10.mkv", "-c:v ffv1 -pix_fmt yuv444p10le"),
        ("i420-10.mkv", "-c:v ffv1 -pix_fmt yuv420p10le"),
        ("coded-10.mkv", "-c:v libx265 -x265-params log-level=none:crf=4 -pix_fmt yuv420p10le"),
        ("nv12.nut", "-c:v rawvideo -pix_fmt nv12"),
        ("rgb.avi", "-c:v png -pix_fmt rgb24"),
        ("bgr.nut", "-c:v rawvideo -pix_fmt bgr24"),
        ("rgba.mkv", "-c:v png -pix_fmt rgba"),
        ("bgra.mkv", "-c:v ffv1 -pix_fmt bgra"),
        ("gbr.mkv", "-c:v ffv1 -pix_fmt gbrp"),
        ("palette.gif", "-c:v gif"),
        ("upside-down.avi", "-c:v rawvideo -pix_fmt bgr24"),
    ] {
        compare(&bench, name, DETAILED, &format!("-frames:v 3 {options}"), (160, 120));
    }
}

#[test]
fn videos_are_turned_as_ffmpeg_turns_them() {
    let bench = Bench::new();
    for format in ["yuv420p", "gray"] {
        let options = format!("-frames:v 2 -c:v libx264 -qp 4 -pix_fmt {format}");
        let clip = bench.clip("lying.mp4", DETAILED, &options);
        for matrix in [[0, 1, -1, 0], [-1, 0, 0, -1], [0, -1, 1, 0], [-1, 0, 0, 1], [0, 1, 1, 0]] {
            let clip = turned(&clip, matrix);
            let size = if matrix[0] == 0 { (120, 160) } else { (160, 120) };
            compare_clip(&bench, &format!("{format}, {matrix:?}"), &clip, size);
        }
    }
}

#[test]
fn another_shape_is_fitted_filled_or_padded_as_the_video_is_shown() {
    let bench = Bench::new();
    let options = "-frames:v 2 -c:v libx264 -qp 4 -pix_fmt yuv420p";
    let plain = bench.clip("plain.mp4", DETAILED, options);
    let wide = bench.clip("wide.mp4", &format!("{DETAILED},setsar=2/1"), options);
    let upright = turned(&plain, [0, 1, -1, 0]);
    let gray = bench.clip("gray.mkv", DETAILED, "-frames:v 2 -c:v ffv1 -pix_fmt gray");
    for (clip, options, filters, size) in [
        (&plain, "-s 160x160 --mode fit", "scale=160:120", (160, 120)),
        (&plain, "-s 160x60 --mode fill", "crop=320:120,scale=160:60", (160, 60)),
        (&plain, "-s 200x120 --pad 0a80ff", "scale=160:120,pad=200:120:20:0:0x0a80ff", (200, 120)),
        (&upright, "-s 160x160 --mode fit", "scale=120:160", (120, 160)),
        (&upright, "-s 120x60 --mode fill", "crop=240:120,scale=120:60", (120, 60)),
        (
            &upright,
            "-s 160x160 --pad 0a80ff",
            "scale=120:160,pad=160:160:20:0:0x0a80ff",
            (160, 160),
        ),
        (&wide, "-s 160x160 --mode fit", "scale=160:60", (160, 60)),
        (&wide, "-s 60x60 --mode fill", "crop=120:240,scale=60:60", (60, 60)),
        (&wide, "-s 160x100 --pad 0a80ff", "scale=160:60,pad=160:100:0:20:0x0a80ff", (160, 100)),
        (&gray, "-s 200x120 --pad 808080", "scale=160:120,pad=200:120:20:0:0x808080", (200, 120)),
        (
            &gray,
            "-s 200x120 --pad 0a80ff",
            "scale=160:120,format=rgb24,pad=200:120:20:0:0x0a80ff",
            (200, 120),
        ),
    ] {
        let run = bench.run(&[clip], &format!("-n 1 --quality 95 {options}"));
        assert!(run.status.success(), "{options}: {run:?}");
        let expected = filtered_pictures(clip, filters, size);
        assert_eq!(bench.names(1), frame_names(expected.len()), "{options}");
        for (number, expected) in (1..).zip(&expected) {
            let picture = bench.picture(1, number);
            let (all, luma) = (picture.psnr(expected), picture.luma_psnr(expected));
            // The smaller a picture, the more of it is edges of its chroma.
            assert!(all > 28.0 && luma > 36.0, "{options}: {all:.1} dB, luma {luma:.1} dB");
        }
    }
}

#[test]
fn frames_that_others_are_made_from_are_not_written_over() {
    let bench = Bench::new();
    // Out of order, and from many others, so the decoder holds many of the slots that it writes to.
    let options = "-frames:v 100 -c:v libx264 -qp 4 -bf 3 -refs 8 -pix_fmt yuv420p";
    compare(&bench, "references.mkv", DETAILED, options, (160, 120));
}

#[test]
fn odd_sides_are_no_trouble() {
    let bench = Bench::new();
    let odd = DETAILED.replace("320x240", "301x203");
    for pixel in ["yuv420p", "gray"] {
        for size in [(151, 101), (150, 101), (151, 102), (97, 301)] {
            let options = format!("-frames:v 2 -c:v ffv1 -pix_fmt {pixel}");
            compare(&bench, "odd.mkv", &odd, &options, size);
        }
    }
}

#[test]
fn flat_colours_come_out_as_they_went_in() {
    let colours = [
        ("black", [0, 0, 0]),
        ("white", [255, 255, 255]),
        ("gray", [128, 128, 128]),
        ("red", [255, 0, 0]),
        ("lime", [0, 255, 0]),
        ("blue", [0, 0, 255]),
        ("orange", [255, 165, 0]),
    ];
    let bench = Bench::new();
    for (range, options) in [
        ("limited", "-c:v ffv1 -pix_fmt yuv420p -color_range tv"),
        (
            "HD",
            "-c:v ffv1 -vf format=rgb24,scale=out_color_matrix=bt709,format=yuv420p -colorspace bt709",
        ),
        (
            "UHD",
            "-c:v ffv1 -vf format=rgb24,scale=out_color_matrix=bt2020,format=yuv420p10le -colorspace bt2020nc",
        ),
        ("untagged", "-c:v mpeg4 -q:v 1 -pix_fmt yuv420p"),
        ("full", "-c:v mjpeg -q:v 1 -pix_fmt yuvj420p"),
        ("rgb", "-c:v png -pix_fmt rgb24"),
    ] {
        for (name, rgb) in colours {
            let source = format!("color=c={name}:size=64x64");
            let clip = bench.clip("flat.mkv", &source, &format!("-frames:v 1 {options}"));
            let run = bench.run(&[&clip], "-n 1 -s 32x32");
            assert!(run.status.success(), "{run:?}");
            let found = bench.picture(1, 1).middle();
            // Two roundings to eight bits of YCbCr, and one back.
            let near =
                found.iter().zip(rgb).all(|(&found, expected)| found.abs_diff(expected) <= 4);
            assert!(near, "{name}, {range}: {found:?}");
        }
    }
}
