//! Conversations with a daemon, as real clients have them.

use std::time::Duration;

use resized_client::{
    Align, Arrangement, ChannelOrder, Crop, Element, Extent, Filter, FrameSpec, Framing,
    PixelFormat, StreamSpec, Tensor,
};
use resized_protocol::VERSION;
use resized_protocol::codec::encode;
use resized_protocol::message::{Cropped, Features, Request};

/// Passes each on: for which target, under which name, and its bytes.
pub(crate) fn write_all(write: impl Fn(&str, &str, &[u8])) {
    for (name, requests) in conversations() {
        let mut bytes = Vec::new();
        for request in &requests {
            encode(request, &mut bytes).unwrap();
        }
        write("session", name, &bytes);
        // In pieces of eight bytes.
        let pieces = [&[7], bytes.as_slice()].concat();
        write("codec", name, &pieces);
    }
}

fn conversations() -> Vec<(&'static str, Vec<Request>)> {
    let hello = || Request::Hello {
        version: VERSION,
        features: Features(u64::MAX),
        name: "a client".into(),
    };
    let open = |stream, spec| Request::Open { stream, spec, named: false };
    let submit = |stream, slots: &[u32]| Request::Submit { stream, slots: slots.into() };
    let all = PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT);
    let mut formats = vec![hello()];
    for ((stream, format), filter) in (0..).zip(all).zip(Filter::ALL.into_iter().cycle()) {
        let source = FrameSpec::new(format, Extent::new(31, 17));
        let spec = StreamSpec::new(source, Extent::new(15, 40));
        formats
            .extend([open(stream, StreamSpec { filter, slots: 2, ..spec }), submit(stream, &[1])]);
    }
    let rgb = FrameSpec::new(PixelFormat::Rgb24, Extent::new(64, 36));
    let mut tensor = StreamSpec::new(rgb, Extent::new(32, 32));
    tensor.destination.format = PixelFormat::Tensor(Tensor {
        element: Element::F16,
        arrangement: Arrangement::Planar,
        order: ChannelOrder::Rgb,
    });
    tensor.framing = Framing::Fit { align: Align::Centre, pad: [1, 2, 3] };
    let crop = Crop { left: 3.5, top: 2.0, width: 20.0, height: 10.25 };
    let gray = FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8));
    let gray = StreamSpec { slots: 4, ..StreamSpec::new(gray, Extent::new(4, 4)) };
    let hurried = StreamSpec { deadline: Some(Duration::from_millis(1500)), ..gray };
    vec![
        ("formats", formats),
        (
            "crops",
            vec![
                hello(),
                open(0, tensor),
                submit(0, &[0]),
                Request::SubmitCropped { stream: 0, slots: vec![Cropped { slot: 1, crop }] },
                Request::Close { stream: 0 },
            ],
        ),
        (
            "cancels",
            vec![
                hello(),
                open(0, gray),
                submit(0, &[0, 1, 2, 3]),
                Request::Cancel { stream: 0, slot: 3 },
                Request::Cancel { stream: 0, slot: 0 },
                Request::Close { stream: 0 },
                open(1, gray),
                submit(1, &[2]),
            ],
        ),
        (
            "figures",
            vec![
                hello(),
                open(0, gray),
                Request::Stats,
                Request::Clients { from: 0 },
                Request::Streams { client: 0, from: 0 },
                Request::Streams { client: u64::MAX, from: u32::MAX },
            ],
        ),
        ("deadlines", vec![hello(), open(0, hurried), submit(0, &[0])]),
        ("segments", vec![hello(), Request::Open { stream: 0, spec: gray, named: true }]),
    ]
}
