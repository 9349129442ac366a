//! The header's numbers beside the protocol's, and specs there and back.

use std::fmt::Debug;

use resized_client::{
    Align, Alpha, Arrangement, ChannelOrder, Coding, Element, Extent, Filter, Framing, Jpeg,
    Matrix, Normalisation, PixelFormat, Quality, Range, Siting, Subsampling,
};

use super::*;

const HEADER: &str = include_str!("../../include/resized.h");

/// The number that the header gives a name.
#[track_caller]
fn in_header(name: &str) -> u32 {
    let lines = HEADER.lines().filter_map(|line| line.trim().split_once(" = "));
    let found: Vec<_> = lines.filter(|(constant, _)| *constant == name).collect();
    let [(_, number)] = found[..] else { panic!("{name} is in the header {} times", found.len()) };
    number.trim_end_matches(',').parse().unwrap()
}

/// The numbers that parse, from zero on, with the protocol's names and places in its order.
fn values<T: Debug>(
    parse: impl Fn(u32) -> Result<T, Failure>,
    of: impl Fn(T) -> u32,
) -> Vec<String> {
    let mut names = Vec::new();
    while let Ok(value) = parse(names.len() as u32) {
        names.push(format!("{value:?}").to_uppercase());
        assert_eq!(of(value) as usize + 1, names.len());
    }
    for number in [names.len() as u32 + 1, u32::MAX] {
        assert!(matches!(parse(number), Err(Failure::Value { .. })));
    }
    names
}

macro_rules! in_step {
    ($($name:ident: $prefix:literal),+ $(,)?) => { $(
        let names = values(|number| abi::$name::parse(number, "it"), |value: $name| {
            // The place in the protocol's order is the number on the wire.
            assert_eq!(value as u32, abi::$name::of(value));
            abi::$name::of(value)
        });
        for (number, name) in names.iter().enumerate() {
            assert_eq!(in_header(&format!("{}_{name}", $prefix)), number as u32);
        }
        let constants = HEADER.lines().map(str::trim);
        let constants = constants.filter(|line| line.starts_with(concat!($prefix, "_")));
        assert_eq!(constants.count(), names.len(), $prefix);
    )+ };
}

#[test]
fn enums_are_in_step_with_the_protocol() {
    in_step!(
        Range: "RESIZED_RANGE",
        Siting: "RESIZED_SITING",
        Matrix: "RESIZED_MATRIX",
        Filter: "RESIZED_FILTER",
        Alpha: "RESIZED_ALPHA",
        Align: "RESIZED_ALIGN",
        Element: "RESIZED_ELEMENT",
        Arrangement: "RESIZED_ARRANGEMENT",
        ChannelOrder: "RESIZED_CHANNEL_ORDER",
        Subsampling: "RESIZED_SUBSAMPLING",
    );
    for (number, name) in ["STRETCH", "FIT", "FILL"].into_iter().enumerate() {
        assert_eq!(in_header(&format!("RESIZED_FRAMING_{name}")), number as u32);
    }
    assert_eq!(Filter::ALL.map(abi::Filter::of), [0, 1, 2, 3, 4, 5]);
}

const TENSOR: Tensor = Tensor {
    element: Element::F16,
    arrangement: Arrangement::Interleaved,
    order: ChannelOrder::Bgr,
};

#[test]
fn formats_are_in_step_with_the_protocol() {
    let parse = |number| Format::parse(number, TENSOR, "it");
    let mut names = values(parse, |format| Format::of(format) as u32);
    assert_eq!(names.len(), PixelFormat::EIGHT_BIT.len() + PixelFormat::TEN_BIT.len() + 1);
    assert_eq!(parse(9).unwrap(), PixelFormat::Tensor(TENSOR));
    names[9] = "TENSOR".to_owned();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(in_header(&format!("RESIZED_FORMAT_{name}")), number as u32);
    }
}

#[test]
fn a_spec_comes_back_as_it_was() {
    let source = protocol::FrameSpec {
        format: PixelFormat::P010,
        extent: Extent::new(640, 480),
        range: Range::Full,
        siting: Siting::Centre,
        matrix: Matrix::Bt2020,
    };
    let plain = protocol::StreamSpec::new(source, Extent::new(64, 48));
    let mut rich = protocol::StreamSpec {
        crop: Some(protocol::Crop { left: 0.5, top: 1.5, width: 2.5, height: 3.5 }),
        framing: Framing::Fit { align: Align::End, pad: [1, 2, 3] },
        filter: Filter::Mitchell,
        alpha: Alpha::Weighs,
        normalisation: Normalisation { mean: [1.0, 2.0, 3.0], scale: [4.0, 5.0, 6.0] },
        slots: 9,
        weight: 10,
        deadline: Some(Duration::from_nanos(11)),
        coding: Coding {
            jpeg_in: true,
            jpeg_out: Some(Jpeg {
                quality: Quality::new(12).unwrap(),
                subsampling: Subsampling::Horizontal,
            }),
        },
        ..plain
    };
    rich.destination.format = PixelFormat::Tensor(TENSOR);
    let fill = protocol::StreamSpec { framing: Framing::Fill, ..plain };
    for spec in [plain, rich, fill] {
        assert_eq!(StreamSpec::of(&spec).parse().unwrap(), spec);
    }
}

#[test]
fn numbers_that_mean_nothing_are_refused_by_name() {
    let frame = protocol::FrameSpec::new(PixelFormat::Gray8, Extent::new(1, 1));
    let good = StreamSpec::of(&protocol::StreamSpec::new(frame, frame.extent));
    let refused = |change: &dyn Fn(&mut StreamSpec)| {
        let mut spec = good;
        change(&mut spec);
        spec.parse().unwrap_err().to_string()
    };
    assert_eq!(refused(&|spec| spec.source.format = 10), "format can't be 10");
    assert_eq!(refused(&|spec| spec.destination.range = 2), "range can't be 2");
    assert_eq!(refused(&|spec| spec.filter = u32::MAX), "filter can't be 4294967295");
    assert_eq!(refused(&|spec| spec.framing = 3), "framing can't be 3");
    assert_eq!(refused(&|spec| spec.jpeg_in = 2), "jpeg_in can't be 2");
    assert_eq!(refused(&|spec| spec.jpeg_quality = 101), "jpeg_quality can't be 101");
    assert_eq!(refused(&|spec| spec.jpeg_quality = 256), "jpeg_quality can't be 256");
    assert_eq!(refused(&|spec| spec.unused[4] = 1), "unused can't be 1");
}
