//! Conversations with a bridge, as real clients have them; frames and pictures as real encoders write
//! them.

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageEncoder, RgbaImage};
use resized_client::{
    Coding, Crop, Extent, FrameSpec, Jpeg, PixelFormat, Quality, StreamSpec, Subsampling,
};
use resized_protocol::VERSION;
use resized_protocol::codec::encode;
use resized_protocol::message::{Cropped, Features, Request};
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;
use turbojpeg::{Compressor, Image, Subsamp};

/// Passes each on: for which target, under which name, and its bytes.
pub(crate) fn write_all(write: impl Fn(&str, &str, &[u8])) {
    write("wire", "planes", &planes());
    write("wire", "jpegs", &jpegs());
    write("wire", "questions", &questions());
    // As they are asked for, behind one byte that says how.
    for (kind, extent) in [("frames", Extent::new(45, 34)), ("pictures", Extent::new(48, 30))] {
        for (number, (name, jpeg)) in (0..).zip(all_jpegs(extent)) {
            write(kind, name, &[&[number], jpeg.as_slice()].concat());
        }
    }
    for (number, (name, file)) in (100..).zip(rasters()) {
        write("pictures", name, &[&[number], file.as_slice()].concat());
    }
}

/// What a client says, with the pixels behind it.
struct Said(Vec<u8>);

impl Said {
    fn new() -> Self {
        let mut said = Self(Vec::new());
        said.call(&Call::Knock { version: VERSION, token: "a token".into() });
        let (features, name) = (Features::default(), "a client".into());
        said.request(Request::Hello { version: VERSION, features, name });
        said
    }

    fn call(&mut self, call: &Call) {
        let mut bytes = Vec::new();
        encode(call, &mut bytes).unwrap();
        self.0.extend(bytes);
    }

    fn request(&mut self, request: Request) {
        self.call(&Call::Request(request));
    }

    fn open(&mut self, stream: u32, spec: StreamSpec) -> usize {
        self.request(Request::Open { stream, spec, named: false });
        RingLayout::new(&spec).unwrap().input().rows_len()
    }
}

fn planes() -> Vec<u8> {
    let mut said = Said::new();
    let source = FrameSpec::new(PixelFormat::I420, Extent::new(6, 4));
    let spec = StreamSpec { slots: 2, ..StreamSpec::new(source, Extent::new(9, 5)) };
    let frame = said.open(0, spec);
    said.request(Request::Submit { stream: 0, slots: vec![1, 0] });
    said.0.extend((0..2 * frame).map(|n| n as u8));
    let crop = Crop { left: 0.5, top: 1.0, width: 3.0, height: 2.25 };
    let gray = FrameSpec::new(PixelFormat::Gray8, Extent::new(4, 3));
    let frame = said.open(1, StreamSpec::new(gray, Extent::new(2, 2)));
    said.request(Request::SubmitCropped { stream: 1, slots: vec![Cropped { slot: 2, crop }] });
    said.0.extend((0..frame).map(|n| (n / 3) as u8));
    said.request(Request::Cancel { stream: 1, slot: 2 });
    said.request(Request::Close { stream: 0 });
    said.0
}

fn jpegs() -> Vec<u8> {
    let mut said = Said::new();
    let extent = Extent::new(16, 12);
    let (_, jpeg) = all_jpegs(extent).swap_remove(0);
    let mut spec = StreamSpec::new(FrameSpec::jpeg(PixelFormat::I420, extent), Extent::new(4, 3));
    spec.destination = FrameSpec::jpeg(PixelFormat::I420, spec.destination.extent);
    let out = Jpeg { quality: Quality::new(75).unwrap(), subsampling: Subsampling::Both };
    spec.coding = Coding { jpeg_in: true, jpeg_out: Some(out) };
    said.open(7, StreamSpec { slots: 2, ..spec });
    said.request(Request::Submit { stream: 7, slots: vec![0, 1] });
    for jpeg in [jpeg.as_slice(), b"no picture"] {
        said.0.extend((jpeg.len() as u32).to_le_bytes());
        said.0.extend(jpeg);
    }
    let raw = StreamSpec { coding: Coding { jpeg_in: false, jpeg_out: Some(out) }, ..spec };
    let frame = said.open(8, raw);
    said.request(Request::Submit { stream: 8, slots: vec![3] });
    said.0.extend((0..frame).map(|n| n as u8));
    said.request(Request::Close { stream: 7 });
    said.0
}

fn questions() -> Vec<u8> {
    let mut said = Said::new();
    let gray = FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8));
    said.request(Request::Stats);
    said.request(Request::Clients { from: 0 });
    said.request(Request::Streams { client: 3, from: 0 });
    // More than the bridge grants, and what nobody does.
    said.open(0, StreamSpec::new(gray, Extent::new(4096, 4096)));
    said.request(Request::Open {
        stream: 1,
        spec: StreamSpec { slots: 0, ..StreamSpec::new(gray, Extent::new(4, 4)) },
        named: true,
    });
    said.request(Request::Submit { stream: 9, slots: vec![] });
    said.call(&Call::Knock { version: VERSION, token: String::new() });
    said.0
}

fn pixels(extent: Extent) -> Vec<u8> {
    (0..3 * extent.pixels()).map(|n| (n * n / 97) as u8).collect()
}

fn all_jpegs(extent: Extent) -> Vec<(&'static str, Vec<u8>)> {
    let jpeg = |subsamp, progressive| {
        let (width, height) = (extent.width as usize, extent.height as usize);
        let (pixels, format) = (pixels(extent), turbojpeg::PixelFormat::RGB);
        let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_progressive(progressive).unwrap();
        compressor.set_quality(60).unwrap();
        compressor.set_subsamp(subsamp).unwrap();
        compressor.compress_to_vec(image).unwrap()
    };
    let plain = jpeg(Subsamp::Sub2x2, false);
    // Turned by a quarter, and with a part of a profile.
    let exif =
        b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let profile = b"\xff\xe2\x00\x16ICC_PROFILE\0\x01\x01profi.";
    let marked = [&plain[..2], exif, profile, &plain[2..]].concat();
    vec![
        ("jpeg-420", plain),
        ("jpeg-422", jpeg(Subsamp::Sub2x1, false)),
        ("jpeg-444", jpeg(Subsamp::None, false)),
        ("jpeg-gray", jpeg(Subsamp::Gray, false)),
        ("jpeg-progressive", jpeg(Subsamp::Sub2x2, true)),
        ("jpeg-marked", marked),
    ]
}

fn rasters() -> Vec<(&'static str, Vec<u8>)> {
    let extent = Extent::new(24, 17);
    let pixels = pixels(extent);
    let image = RgbaImage::from_fn(extent.width, extent.height, |x, y| {
        let at = 3 * (y * extent.width + x) as usize;
        image::Rgba([pixels[at], pixels[at + 1], pixels[at + 2], (10 * x) as u8])
    });
    let image = DynamicImage::from(image);
    let png = |image: DynamicImage| {
        let mut file = Vec::new();
        let mut encoder = PngEncoder::new(Cursor::new(&mut file));
        encoder.set_icc_profile(b"a profile".to_vec()).unwrap();
        let colour = image.color().into();
        encoder.write_image(image.as_bytes(), image.width(), image.height(), colour).unwrap();
        file
    };
    let mut webp = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.encode(image.as_bytes(), image.width(), image.height(), image.color().into()).unwrap();
    vec![
        ("png-rgba", png(image.clone())),
        ("png-gray", png(image.to_luma8().into())),
        ("png-rgb16", png(image.to_rgb16().into())),
        ("webp", webp),
    ]
}
