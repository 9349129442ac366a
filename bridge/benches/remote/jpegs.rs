//! Frames that are JPEGs both ways.

use std::thread;

use resized_client::{
    Client, Coding, Extent, FrameSpec, Jpeg, PixelFormat, Quality, Stream, StreamSpec, Subsampling,
};
use turbojpeg::{
    Compressor, Decompressor, Image, ScalingFactor, Subsamp, YuvImage, YuvPlanesImage,
};

use super::{
    CONNECTIONS, FRAMES, IN_FLIGHT, InProcess, Process, film, in_turns, per_second, resize,
};

const QUALITY: Quality = Quality::DEFAULT;

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
    // Made before, as what the bridge and its daemon have for a stream is.
    let mut threads: Vec<_> = (0..cores).map(|_| Whole::new(&spec)).collect();
    let bare = || {
        per_second(all / cores * cores, || {
            thread::scope(|scope| {
                for whole in &mut threads {
                    let (jpeg, result) = (&jpeg, &result);
                    scope.spawn(move || whole.resize(jpeg, all / cores, result));
                }
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
    compressor.set_quality(u8::from(QUALITY).into()).unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    compressor.compress_to_vec(image).unwrap()
}

/// What a thread of a program has that has the codec and the kernels in itself.
struct Whole {
    bare: InProcess,
    decompressor: Decompressor,
    compressor: Compressor,
    destination: Extent,
}

impl Whole {
    fn new(spec: &StreamSpec) -> Self {
        let Extent { width, height } = spec.source.extent;
        let mut spec = StreamSpec { coding: Coding::RAW, slots: 1, ..*spec };
        spec.source.extent = Extent::new(width / 2, height / 2);
        let mut decompressor = Decompressor::new().unwrap();
        decompressor.set_scaling_factor(ScalingFactor::ONE_HALF).unwrap();
        let mut compressor = Compressor::new().unwrap();
        compressor.set_quality(u8::from(QUALITY).into()).unwrap();
        let (bare, destination) = (InProcess::new(&spec), spec.destination.extent);
        Self { bare, decompressor, compressor, destination }
    }

    /// So many frames, which are to become what is expected.
    fn resize(&mut self, jpeg: &[u8], frames: usize, expected: &[u8]) {
        let Self { bare, decompressor, compressor, destination } = self;
        let mut made = Vec::new();
        for _ in 0..frames {
            let half = bare.ring.input().planes()[0];
            let image = YuvImage {
                width: half.row_bytes(),
                height: half.rows(),
                align: 64,
                pixels: bare.lease.input_mut(),
                subsamp: Subsamp::Sub2x2,
            };
            decompressor.decompress_to_yuv(jpeg, image).unwrap();
            bare.resize();
            let whole = bare.ring.output().planes();
            let plane = |index: usize| &bare.lease.output()[whole[index].offset..];
            let image = YuvPlanesImage {
                y_plane: plane(0),
                u_plane: plane(1),
                v_plane: plane(2),
                width: destination.width as usize,
                height: destination.height as usize,
                y_stride: whole[0].stride,
                u_stride: whole[1].stride,
                v_stride: whole[2].stride,
                subsamp: Subsamp::Sub2x2,
            };
            made = compressor.compress_yuv_planes_to_vec(&image).unwrap();
        }
        assert!(made == expected, "the same work");
    }
}
