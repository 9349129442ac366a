//! What comes of caps, beside what comes of them with `videoscale`.

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoBufferFlags, VideoInfo};

use crate::studio::{Studio, caps, errors, info, init, noise};

/// The caps before and behind an element, or that there are none.
fn negotiated(
    studio: &Studio,
    element: &str,
    from: &str,
    to: &str,
) -> Option<[Option<gst::Caps>; 2]> {
    init();
    let pipeline = format!(
        "videotestsrc num-buffers=1 ! video/x-raw,{from} ! {element} name=scale \
         ! video/x-raw,{to} ! fakesink"
    );
    // Where no format fits, its pads are not even linked.
    let pipeline = gst::parse::launch(&pipeline).ok()?.downcast::<gst::Pipeline>().unwrap();
    let scale = pipeline.by_name("scale").unwrap();
    if element == "resizedscale" {
        scale.set_property("endpoint", studio.endpoint());
    }
    pipeline.set_state(gst::State::Paused).unwrap();
    let (result, _, _) = pipeline.state(gst::ClockTime::from_seconds(60));
    let caps = ["sink", "src"].map(|pad| scale.static_pad(pad).unwrap().current_caps());
    pipeline.set_state(gst::State::Null).unwrap();
    result.is_ok().then_some(caps)
}

/// Width to height, as it is seen.
fn seen(caps: &gst::Caps) -> f64 {
    let info = VideoInfo::from_caps(caps).unwrap();
    let pixel = f64::from(info.par().numer()) / f64::from(info.par().denom());
    pixel * f64::from(info.width()) / f64::from(info.height())
}

#[test]
fn sizes_are_negotiated_as_videoscale_does() {
    let studio = Studio::new();
    let mut refused = 0;
    for from in [
        "format=I420,width=320,height=240",
        "format=NV12,width=720,height=576,pixel-aspect-ratio=16/15",
        "format=RGB,width=720,height=480,pixel-aspect-ratio=40/33,colorimetry=sRGB",
        "format=GRAY8,width=101,height=7,framerate=5/1",
        "format=I420,width=640,height=360,chroma-site=jpeg,colorimetry=bt709",
    ] {
        for to in [
            "width=160,height=120",
            "width=160",
            "height=100",
            "width=640,height=240",
            "width=400,height=240,pixel-aspect-ratio=1/1",
            "width=400,height=240,pixel-aspect-ratio=[1/2,2/1]",
            "pixel-aspect-ratio=1/1",
            "pixel-aspect-ratio=16/15",
            "pixel-aspect-ratio={1/1,16/15,2/1}",
            "pixel-aspect-ratio=1/1,height=576",
            "pixel-aspect-ratio=1/1,width=853",
            "width=360,pixel-aspect-ratio={1/1,2/1}",
            "height=288,pixel-aspect-ratio={1/1,3/2}",
            "width=[1,200],height=[1,200]",
            "width=[1,200],height=[1,200],pixel-aspect-ratio=1/1",
            "width=[400,800],height=[1,150],pixel-aspect-ratio={1/1,5/4}",
            "width={64,128,256},height={64,128,256},pixel-aspect-ratio=1/1",
            "width={64,128,256},height={64,128,256},pixel-aspect-ratio={1/1,7/5}",
            "width={64,128,256}",
            "height=[64,128,32]",
            "width=[1,50],pixel-aspect-ratio=1/1",
            "framerate=[1/1,100/1]",
            "format=I420",
            "format={NV12,BGR}",
            "format=BGRA,width=64",
            "framerate=7/1",
        ] {
            let of = |element| negotiated(&studio, element, from, to);
            let (ours, theirs) = (of("resizedscale"), of("videoscale"));
            match to {
                // What 1.22's videoscale gets wrong: it multiplies by the pixels' shape where it
                // should divide.
                "pixel-aspect-ratio=16/15" => {
                    let [from, to] = ours.clone().unwrap().map(|caps| seen(&caps.unwrap()));
                    assert!((from / to - 1.0).abs() < 0.002, "{from} to {to}");
                }
                _ => assert_eq!(ours, theirs, "{from} to {to}"),
            }
            refused += usize::from(ours.is_none());
        }
    }
    // A format or a rate that is not the source's.
    assert!((10..30).contains(&refused), "{refused}");
}

#[test]
fn interlaced_frames_go_through_or_are_refused_with_a_reason() {
    let studio = Studio::new();
    let from = "format=I420,width=64,height=64,interlace-mode=interleaved";
    let (mut harness, _element, bus) = studio.harness(from, from);
    let buffer = gst::Buffer::with_size(64 * 64 * 3 / 2).unwrap();
    harness.push(buffer.clone()).unwrap();
    harness.pull().unwrap();
    let to = "format=I420,width=32,height=32,interlace-mode=interleaved";
    let (mut harness, _element, bus_of_other) = studio.harness(from, to);
    assert!(harness.push(buffer).is_err());
    assert_eq!(errors(&bus), [] as [&str; 0]);
    let said = errors(&bus_of_other);
    assert!(said[0].contains("interlaced frames are not resized"), "{said:?}");
}

#[test]
fn sizes_are_open_to_video_that_is_resized() {
    let studio = Studio::new();
    let (element, _bus) = studio.element();
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    let video = |side, mode| caps(&format!("format=I420,width={side},height={side}{mode}"));
    let unsaid = "";
    let [progressive, mixed, interleaved] =
        ["progressive", "mixed", "interleaved"].map(|mode| format!(",interlace-mode={mode}"));
    for (taken, given, resized) in [
        (unsaid, unsaid, true),
        (unsaid, &progressive, true),
        (unsaid, &mixed, true),
        (unsaid, &interleaved, false),
        (&interleaved, &interleaved, false),
        (",interlace-mode={interleaved,progressive}", &progressive, true),
        (",interlace-mode={interleaved,progressive}", &interleaved, false),
    ] {
        harness.set_sink_caps(video(32, taken));
        let asked = element.static_pad("sink").unwrap().query_caps(None);
        assert!(asked.can_intersect(&video(32, given)), "{taken} {given}: {asked}");
        assert_eq!(asked.can_intersect(&video(64, given)), resized, "{taken} {given}: {asked}");
        let within = video(64, given);
        let asked = element.static_pad("sink").unwrap().query_caps(Some(&within));
        // Who says nothing is asked for nothing more.
        assert_eq!(asked, if resized { within } else { gst::Caps::new_empty() }, "{taken} {given}");
    }
}

#[test]
fn of_mixed_video_frames_are_resized_that_are_not_interlaced() {
    let studio = Studio::new();
    let from = "format=I420,width=64,height=64,interlace-mode=mixed";
    let to = "format=I420,width=32,height=32,interlace-mode=mixed";
    let (mut harness, _element, bus) = studio.harness(from, to);
    let mut frame = noise(&info(from), 0);
    harness.push(frame.clone()).unwrap();
    assert_eq!(harness.pull().unwrap().size(), info(to).size());
    assert_eq!(errors(&bus), [] as [&str; 0]);
    frame.make_mut().set_video_flags(VideoBufferFlags::INTERLACED);
    assert_eq!(harness.push(frame), Err(gst::FlowError::Error));
    let said = errors(&bus);
    assert!(said[0].contains("interlaced frames are not resized"), "{said:?}");
}
