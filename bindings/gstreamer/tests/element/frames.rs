//! Frames that are pushed through the element by hand.

use std::fs;

use gst::prelude::*;
use gst_video::{VideoFrameFlags, VideoFrameRef, VideoInfo, VideoMeta, VideoRegionOfInterestMeta};
use resized_client::{Filter, PixelFormat, StreamSpec};

use crate::studio::{Studio, caps, errors, info, noise, packed, spec};

/// Whether a buffer's first byte lies in a memfd, as slots do.
fn is_shared(buffer: &gst::BufferRef) -> bool {
    let map = buffer.map_readable().unwrap();
    let address = map.as_ptr() as usize;
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let within = |line: &&str| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&address)
    };
    maps.lines().find(within).unwrap().contains("/memfd:")
}

#[test]
fn rows_may_lie_apart_and_sides_may_be_odd() {
    let studio = Studio::new();
    for (name, format) in [
        ("I420", PixelFormat::I420),
        ("YV12", PixelFormat::I420),
        ("NV12", PixelFormat::Nv12),
        ("NV21", PixelFormat::Nv12),
        ("RGB", PixelFormat::Rgb24),
        ("BGRA", PixelFormat::Bgra),
        ("ARGB", PixelFormat::Rgba),
        ("GRAY8", PixelFormat::Gray8),
        ("I420_10LE", PixelFormat::I420P10),
        ("P010_10LE", PixelFormat::P010),
    ] {
        let from = format!("format={name},width=101,height=67");
        let to = format!("format={name},width=45,height=33");
        let (from, to) = (info(&from), info(&to));
        let spec = spec(format, (101, 67), (45, 33));
        for (further, reads_meta) in [(0, false), (0, true), (20, false), (20, true)] {
            let (element, bus) = studio.element();
            element.set_property("add-borders", false);
            let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
            if reads_meta {
                harness.add_propose_allocation_meta(VideoMeta::meta_api(), None);
            }
            harness.set_caps(from.to_caps().unwrap(), to.to_caps().unwrap());
            let frame = noise(&from, further);
            harness.push(frame.clone()).unwrap();
            let output = harness.pull().unwrap();
            assert_eq!(errors(&bus), [] as [&str; 0]);
            assert_eq!(output.pts(), frame.pts());
            let wanted = studio.resized(&spec, &packed(&frame, &from));
            assert!(packed(&output, &to) == wanted, "{name}, {further} further");
            assert_eq!(is_shared(&output), reads_meta, "{name}");
        }
    }
}

#[test]
fn rows_that_lie_backwards_or_over_each_other_are_an_error() {
    let studio = Studio::new();
    let (from, to) =
        (info("format=GRAY8,width=64,height=64"), info("format=GRAY8,width=32,height=32"));
    for stride in [-64, 0, 1, 63] {
        let (element, bus) = studio.element();
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_caps(from.to_caps().unwrap(), to.to_caps().unwrap());
        let mut buffer = gst::Buffer::with_size(from.size()).unwrap();
        let offset = if stride < 0 { 63 * 64 } else { 0 };
        let (flags, format) = (VideoFrameFlags::empty(), from.format());
        let made = buffer.make_mut();
        VideoMeta::add_full(made, flags, format, 64, 64, &[offset], &[stride]).unwrap();
        assert_eq!(harness.push(buffer), Err(gst::FlowError::Error), "{stride}");
        let said = errors(&bus);
        assert!(said[0].contains("rows of 64 bytes"), "{said:?}");
    }
}

#[test]
fn who_keeps_buffers_gets_copies_and_all_stay_as_they_were() {
    let studio = Studio::new();
    let (from, to) =
        (info("format=GRAY8,width=96,height=64"), info("format=GRAY8,width=48,height=32"));
    let (element, bus) = studio.element();
    element.set_property_from_str("method", "lanczos3");
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    harness.add_propose_allocation_meta(VideoMeta::meta_api(), None);
    harness.set_caps(from.to_caps().unwrap(), to.to_caps().unwrap());
    let frame = noise(&from, 0);
    let kept: Vec<_> = (0..10)
        .map(|_| {
            harness.push(frame.clone()).unwrap();
            harness.pull().unwrap()
        })
        .collect();
    let spec = spec(PixelFormat::Gray8, (96, 64), (48, 32));
    let spec = StreamSpec { filter: Filter::Lanczos3, ..spec };
    let wanted = studio.resized(&spec, &packed(&frame, &from));
    let shared = kept.iter().filter(|buffer| is_shared(buffer)).count();
    assert_eq!(shared, StreamSpec::SLOTS as usize - 1);
    // They outlive the element.
    drop((harness, element));
    assert!(kept.iter().all(|buffer| packed(buffer, &to) == wanted));
    assert_eq!(errors(&bus), [] as [&str; 0]);
}

#[test]
fn equal_sizes_go_through_untouched() {
    let studio = Studio::new();
    let same = "format=RGB,width=64,height=48";
    let (mut harness, element, _bus) = studio.harness(same, same);
    let frame = noise(&info(same), 0);
    harness.push(frame.clone()).unwrap();
    assert_eq!(harness.pull().unwrap().as_ptr(), frame.as_ptr());
    // Of another shape, but to be stretched: nothing to do either.
    element.set_property("add-borders", false);
    let wide = "format=RGB,width=64,height=48,pixel-aspect-ratio=2/1";
    harness.set_caps(caps(same), caps(wide));
    harness.push(frame.clone()).unwrap();
    assert_eq!(harness.pull().unwrap().as_ptr(), frame.as_ptr());
}

#[test]
fn caps_may_change_and_what_is_on_the_way_may_be_flushed() {
    let studio = Studio::new();
    let to = info("format=RGB,width=40,height=30");
    let (mut harness, _element, bus) =
        studio.harness("format=RGB,width=80,height=60", "format=RGB,width=40,height=30");
    for (round, (width, height)) in
        [(80, 60), (160, 120), (40, 30), (20, 15)].into_iter().enumerate()
    {
        let from = info(&format!("format=RGB,width={width},height={height}"));
        harness.set_src_caps(from.to_caps().unwrap());
        if round % 2 == 1 {
            harness.push_event(gst::event::FlushStart::new());
            assert_eq!(harness.push(noise(&from, 0)), Err(gst::FlowError::Flushing));
            harness.push_event(gst::event::FlushStop::new(true));
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            harness.push_event(gst::event::Segment::new(&segment));
        }
        let frame = noise(&from, 0);
        harness.push(frame.clone()).unwrap();
        let output = harness.pull().unwrap();
        let spec = spec(PixelFormat::Rgb24, (width, height), (40, 30));
        assert!(packed(&output, &to) == studio.resized(&spec, &packed(&frame, &from)), "{width}");
    }
    harness.push_event(gst::event::Eos::new());
    let mut ended = false;
    while let Some(event) = harness.try_pull_event() {
        ended |= event.type_() == gst::EventType::Eos;
    }
    assert!(ended);
    assert_eq!(errors(&bus), [] as [&str; 0]);
}

#[test]
fn borders_are_black_or_there_are_none() {
    let studio = Studio::new();
    for (name, black, white) in [
        ("I420", vec![16], vec![235]),
        ("RGBA", vec![0, 0, 0, 255], vec![255; 4]),
        ("ARGB", vec![255, 0, 0, 0], vec![255; 4]),
        ("P010_10LE", vec![0, 16], vec![0xC0, 0xEA]),
    ] {
        for (borders, width, height, picture) in [
            (true, 96, 64, (16..80, 0..64)),
            (true, 64, 99, (0..64, 16..80)),
            (false, 96, 64, (0..96, 0..64)),
        ] {
            let from = info(&format!("format={name},width=64,height=64"));
            let to = info(&format!("format={name},width={width},height={height}"));
            let (element, bus) = studio.element();
            element.set_property("add-borders", borders);
            let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
            harness.add_propose_allocation_meta(VideoMeta::meta_api(), None);
            harness.set_caps(from.to_caps().unwrap(), to.to_caps().unwrap());
            let mut bytes = white.repeat(64 * 64);
            // Chroma of no colour.
            let middle = if white.len() == 2 { vec![0, 128] } else { vec![128] };
            bytes.extend(middle.repeat((from.size() - bytes.len()) / middle.len()));
            harness.push(gst::Buffer::from_mut_slice(bytes)).unwrap();
            let output = packed(&harness.pull().unwrap(), &to);
            assert_eq!(errors(&bus), [] as [&str; 0]);
            let luma = (width * height) as usize * white.len();
            for (at, pixel) in output[..luma].chunks_exact(white.len()).enumerate() {
                let (x, y) = (at as u32 % width, at as u32 / width);
                let inside = picture.0.contains(&x) && picture.1.contains(&y);
                assert_eq!(pixel, if inside { &white } else { &black }, "{name} {x} {y}");
            }
            assert!(output[luma..].chunks_exact(middle.len()).all(|chroma| chroma == middle));
        }
    }
}

#[test]
fn colours_that_caps_do_not_name_change_with_the_height_as_with_videoscale() {
    let studio = Studio::new();
    for (name, colour) in [("I420", ""), ("P010_10LE", ""), ("I420", ",colorimetry=bt601")] {
        for (from, to) in [((16, 480), (24, 720)), ((24, 720), (16, 480)), ((24, 720), (20, 600))] {
            let text =
                |(width, height)| format!("format={name},width={width},height={height}{colour}");
            let (from, to) = (text(from), text(to));
            let made = |element: &gst::Element| {
                let mut harness =
                    gst_check::Harness::with_element(element, Some("sink"), Some("src"));
                harness.set_caps(caps(&from), caps(&to));
                harness.push(red(&info(&from))).unwrap();
                packed(&harness.pull().unwrap(), &info(&to))
            };
            let ours = made(&studio.element().0);
            let theirs = made(&gst::ElementFactory::make("videoscale").build().unwrap());
            assert_eq!(ours.len(), theirs.len());
            // Of ten bits, the upper eight.
            let step = if name == "I420" { 1 } else { 2 };
            let upper = |bytes: Vec<u8>| bytes.into_iter().skip(step - 1).step_by(step);
            let furthest = upper(ours).zip(upper(theirs)).map(|(a, b)| a.abs_diff(b)).max();
            assert!(furthest <= Some(1), "{from} to {to}: {furthest:?}");
        }
    }
}

/// A red frame of luma and chroma, by BT.601.
fn red(info: &VideoInfo) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    let mut frame = VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), info).unwrap();
    let sample = |value: u8| match info.comp_depth(0) {
        8 => vec![value],
        _ => vec![0, value],
    };
    let pixels = match info.n_planes() {
        3 => vec![sample(81), sample(90), sample(240)],
        _ => vec![sample(81), [sample(90), sample(240)].concat()],
    };
    for (plane, pixel) in pixels.iter().enumerate() {
        let bytes = frame.plane_data_mut(plane as u32).unwrap();
        bytes.chunks_exact_mut(pixel.len()).for_each(|target| target.copy_from_slice(pixel));
    }
    drop(frame);
    buffer
}

#[test]
fn regions_of_interest_and_pointers_are_where_the_picture_is() {
    let studio = Studio::new();
    // Between borders, 16 pixels wide, at half its size.
    let from = "format=GRAY8,width=128,height=128";
    let (mut harness, _element, _bus) =
        studio.harness(from, "format=GRAY8,width=96,height=64,pixel-aspect-ratio=1/1");
    let mut frame = noise(&info(from), 0);
    let region = (20, 40, 60, 80);
    VideoRegionOfInterestMeta::add(frame.make_mut(), "face", region).set_parent_id(7);
    harness.push(frame).unwrap();
    let output = harness.pull().unwrap();
    let regions: Vec<_> = output.iter_meta::<VideoRegionOfInterestMeta>().collect();
    let [found] = &regions[..] else { panic!("{} regions", regions.len()) };
    assert_eq!((found.rect(), found.roi_type()), ((26, 20, 30, 40), "face"));
    assert_eq!(found.parent_id(), 7);
    let pointer = gst::Structure::builder("application/x-gst-navigation")
        .field("event", "mouse-move")
        .field("pointer_x", 26.0)
        .field("pointer_y", 20.0)
        .build();
    harness.push_upstream_event(gst::event::Navigation::new(pointer));
    let arrived = std::iter::from_fn(|| harness.try_pull_upstream_event())
        .find(|event| event.type_() == gst::EventType::Navigation)
        .unwrap();
    let at = |name| arrived.structure().unwrap().get::<f64>(name).unwrap();
    assert_eq!((at("pointer_x"), at("pointer_y")), (20.0, 40.0));
}
