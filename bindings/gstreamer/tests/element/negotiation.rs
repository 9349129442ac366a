//! What comes of caps, beside what comes of them with `videoscale`.

use gst::prelude::*;
use gst_video::VideoInfo;

use crate::studio::{Studio, errors, init};

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
