//! Frames that are JPEGs both ways.

use std::thread;

use resized_client::{
    Client, Coding, Extent, FrameSpec, Jpeg, PixelFormat, Stream, StreamSpec, Subsampling,
};
use turbojpeg::{
    Compressor, Decompressor, Image, ScalingFactor, Subsamp, YuvImage, YuvPlanesImage,
};

use super::{
    CONNECTIONS, FRAMES, IN_FLIGHT, InProcess, Process, film, in_turns, per_second, resize,
};

const QUALITY: u8 = 85;

/// Streams of as many connections, whose frames are JPEGs both ways.
pub(crate) struct CodedStreams(Vec<Stream>);

impl CodedStreams {
    pub(crate) fn open(bridge: &Process) -> Self {
        let open = |_| Client::connect(&bridge.endpoint()).unwrap().open(&spec()).unwrap();
        Self((0..CONNECTIONS).map(open).collect())
    }

    /// What becomes of one JPEG.
    pub(crate) fn made(&self, jpeg: &[u8]) -> Vec<u8> {
        let mut slot = self.0[0].loan().unwrap();
        slot.write_jpeg(jpeg).unwrap();
        slot.submit().unwrap().wait().unwrap().jpeg().to_vec()
    }

    /// Each connection's frames of a turn.
    pub(crate) fn resize(&self, jpeg: &[u8]) {
        thread::scope(|scope| {
            self.0.iter().for_each(|stream| drop(scope.spawn(|| resize(stream, jpeg))));
        });
    }
}

fn spec() -> StreamSpec {
    let mut spec = film(IN_FLIGHT);
    spec.source = FrameSpec::jpeg(PixelFormat::I420, spec.source.extent);
    spec.destination = FrameSpec::jpeg(PixelFormat::I420, spec.destination.extent);
    let out = Jpeg { quality: QUALITY, subsampling: Subsampling::Both };
    spec.coding = Coding { jpeg_in: true, jpeg_out: Some(out) };
    spec
}

/// Frames a second of several connections whose frames are JPEGs both ways, beside the same work
/// without a daemon, by a thread for each core.
pub(crate) fn jpegs(bridge: &Process) -> String {
    let (jpeg, spec, streams) = (photo(), spec(), CodedStreams::open(bridge));
    let cores = thread::available_parallelism().unwrap().get();
    let result = streams.made(&jpeg);
    let all = FRAMES * CONNECTIONS;
    let bare = || {
        per_second(all / cores * cores, || {
            thread::scope(|scope| {
                (0..cores).for_each(|_| {
                    drop(scope.spawn(|| in_process(&jpeg, &spec, all / cores, &result)));
                });
            });
        })
    };
    let ours = || per_second(all, || streams.resize(&jpeg));
    let (ours, bare, ratio) = in_turns(ours, bare);
    let (there, back) = (jpeg.len(), result.len());
    println!(
        "JPEG 1080p -> JPEG 640x360, {there} and {back} bytes, {CONNECTIONS} connections: {ours:.0} frames/s, in \
         process {bare:.0}: {:.1} % (goal 90 %)",
        ratio * 100.0
    );
    format!(
        r#"{{"figure":"jpeg","ours_fps":{ours:.1},"bare_fps":{bare:.1},"ratio":{ratio:.4},"in_bytes":{there},"out_bytes":{back}}}"#
    )
}

/// A JPEG of a film's extent with as much in it as a photograph has.
pub(crate) fn photo() -> Vec<u8> {
    let Extent { width, height } = film(1).source.extent;
    let mut state = 1_u32;
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = f64::from(state >> 28);
            let wave = (f64::from(x) / 37.0).sin() * (f64::from(y) / 23.0).cos();
            let edge = if (x / 61 + y / 47) % 2 == 0 { 40.0 } else { 0.0 };
            let value = 90.0 + 50.0 * wave + edge + grain;
            pixels.extend([value, value * 0.8, 230.0 - value].map(|value| value as u8));
        }
    }
    let (width, height) = (width as usize, height as usize);
    let format = turbojpeg::PixelFormat::RGB;
    let image = Image { pixels: pixels.as_slice(), width, pitch: 3 * width, height, format };
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(QUALITY.into()).unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    compressor.compress_to_vec(image).unwrap()
}

/// What a thread of a program does that has the codec and the kernels in itself.
fn in_process(jpeg: &[u8], spec: &StreamSpec, frames: usize, expected: &[u8]) {
    let Extent { width, height } = spec.source.extent;
    let mut spec = StreamSpec { coding: Coding::RAW, slots: 1, ..*spec };
    spec.source.extent = Extent::new(width / 2, height / 2);
    let mut bare = InProcess::new(&spec);
    let mut decompressor = Decompressor::new().unwrap();
    decompressor.set_scaling_factor(ScalingFactor::ONE_HALF).unwrap();
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(QUALITY.into()).unwrap();
    let mut made = Vec::new();
    for _ in 0..frames {
        let (width, height) = (width as usize / 2, height as usize / 2);
        let (pixels, subsamp) = (bare.lease.input_mut(), Subsamp::Sub2x2);
        let image = YuvImage { pixels, width, align: 64, height, subsamp };
        decompressor.decompress_to_yuv(jpeg, image).unwrap();
        bare.resize();
        let layout = bare.ring.output();
        let plane = |index: usize| &bare.lease.output()[layout.planes()[index].offset..];
        let image = YuvPlanesImage {
            y_plane: plane(0),
            u_plane: plane(1),
            v_plane: plane(2),
            width: spec.destination.extent.width as usize,
            height: spec.destination.extent.height as usize,
            y_stride: layout.planes()[0].stride,
            u_stride: layout.planes()[1].stride,
            v_stride: layout.planes()[2].stride,
            subsamp,
        };
        made = compressor.compress_yuv_planes_to_vec(&image).unwrap();
    }
    assert!(made == expected, "the same work");
}
