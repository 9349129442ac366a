//! Owns zimg: the few functions and structures of its C interface (2.4, `zimg.h`) that resizing I420
//! needs, and the peer made of them.
//!
//! Structures are filled by zimg's own defaults before a field is set, and their layouts are held to
//! those that a C compiler for x86-64 gives.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::{MaybeUninit, offset_of};
use std::ptr;

use resized_protocol::frame::{FrameSpec, PixelFormat, Range, Siting};
use resized_protocol::message::{Filter, StreamSpec};

use crate::frame::Frame;
use crate::turn::{Contender, timed};

/// `ZIMG_CPU_AUTO_64B`: the best of this CPU, 512-bit vectors included.
pub(crate) const CPU_AUTO_64B: c_int = 2;
/// `ZIMG_CPU_X86_AVX2`.
pub(crate) const CPU_X86_AVX2: c_int = 1009;

const API: c_uint = 2 << 8 | 4;
const BUFFER_MAX: c_uint = c_uint::MAX;
const PIXEL_BYTE: c_int = 0;
const COLOR_YUV: c_int = 2;
const RANGE_LIMITED: c_int = 0;
const RANGE_FULL: c_int = 1;
const CHROMA_LEFT: c_int = 0;
const CHROMA_CENTER: c_int = 1;
const RESIZE_BILINEAR: c_int = 1;
const RESIZE_BICUBIC: c_int = 2;
const RESIZE_LANCZOS: c_int = 5;

/// `zimg_image_buffer.plane[]`.
#[repr(C)]
struct PlaneBuffer<P> {
    data: P,
    stride: isize,
    mask: c_uint,
}

/// `zimg_image_buffer`, and its `_const` twin.
#[repr(C)]
struct ImageBuffer<P> {
    version: c_uint,
    plane: [PlaneBuffer<P>; 4],
}

/// `zimg_image_format`.
#[repr(C)]
struct ImageFormat {
    version: c_uint,
    width: c_uint,
    height: c_uint,
    pixel_type: c_int,
    subsample_w: c_uint,
    subsample_h: c_uint,
    color_family: c_int,
    matrix_coefficients: c_int,
    transfer_characteristics: c_int,
    color_primaries: c_int,
    depth: c_uint,
    pixel_range: c_int,
    field_parity: c_int,
    chroma_location: c_int,
    active_region: [f64; 4],
    alpha: c_int,
}

/// `zimg_graph_builder_params`.
#[repr(C)]
struct GraphBuilderParams {
    version: c_uint,
    resample_filter: c_int,
    filter_param_a: f64,
    filter_param_b: f64,
    resample_filter_uv: c_int,
    filter_param_a_uv: f64,
    filter_param_b_uv: f64,
    dither_type: c_int,
    cpu_type: c_int,
    nominal_peak_luminance: f64,
    allow_approximate_gamma: c_char,
}

#[cfg(target_arch = "x86_64")]
const _: () = {
    type Buffer = ImageBuffer<*mut u8>;
    assert!(size_of::<Buffer>() == 104 && offset_of!(Buffer, plane) == 8);
    assert!(size_of::<PlaneBuffer<*mut u8>>() == 24);
    assert!(offset_of!(PlaneBuffer<*mut u8>, stride) == 8);
    assert!(offset_of!(PlaneBuffer<*mut u8>, mask) == 16);
    assert!(size_of::<ImageFormat>() == 96);
    assert!(offset_of!(ImageFormat, subsample_w) == 16);
    assert!(offset_of!(ImageFormat, depth) == 40);
    assert!(offset_of!(ImageFormat, chroma_location) == 52);
    assert!(offset_of!(ImageFormat, active_region) == 56);
    assert!(offset_of!(ImageFormat, alpha) == 88);
    assert!(size_of::<GraphBuilderParams>() == 72);
    assert!(offset_of!(GraphBuilderParams, filter_param_a) == 8);
    assert!(offset_of!(GraphBuilderParams, resample_filter_uv) == 24);
    assert!(offset_of!(GraphBuilderParams, cpu_type) == 52);
    assert!(offset_of!(GraphBuilderParams, nominal_peak_luminance) == 56);
    assert!(offset_of!(GraphBuilderParams, allow_approximate_gamma) == 64);
};

/// `zimg_filter_graph`.
#[repr(C)]
struct FilterGraph {
    opaque: [u8; 0],
}

type Callback = unsafe extern "C" fn(*mut c_void, c_uint, c_uint, c_uint) -> c_int;

#[link(name = "zimg")]
unsafe extern "C" {
    fn zimg_get_version_info(major: *mut c_uint, minor: *mut c_uint, micro: *mut c_uint);
    fn zimg_get_last_error(message: *mut c_char, len: usize) -> c_int;
    fn zimg_image_format_default(format: *mut ImageFormat, version: c_uint);
    fn zimg_graph_builder_params_default(params: *mut GraphBuilderParams, version: c_uint);
    fn zimg_filter_graph_build(
        source: *const ImageFormat,
        destination: *const ImageFormat,
        params: *const GraphBuilderParams,
    ) -> *mut FilterGraph;
    fn zimg_filter_graph_free(graph: *mut FilterGraph);
    fn zimg_filter_graph_get_tmp_size(graph: *const FilterGraph, out: *mut usize) -> c_int;
    fn zimg_filter_graph_process(
        graph: *const FilterGraph,
        source: *const ImageBuffer<*const u8>,
        destination: *const ImageBuffer<*mut u8>,
        tmp: *mut c_void,
        unpack: Option<Callback>,
        unpack_user: *mut c_void,
        pack: Option<Callback>,
        pack_user: *mut c_void,
    ) -> c_int;
}

/// What zimg aligns everything to.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct CacheLine {
    _bytes: [u8; 64],
}

/// A graph and all that it works on. Invariant: `graph` is not null, was built for frames of the specs
/// that `source` and `destination` have, and needs no more than `scratch`.
pub(crate) struct Zimg {
    graph: *mut FilterGraph,
    source: Frame,
    destination: Frame,
    scratch: Vec<CacheLine>,
}

impl Zimg {
    pub(crate) fn open(work: &StreamSpec, cpu: c_int) -> Self {
        let (from, to, params) = (format(work.source), format(work.destination), params(work, cpu));
        // SAFETY: all three are valid, their versions and unused fields filled by zimg itself.
        let graph = unsafe { zimg_filter_graph_build(&from, &to, &params) };
        assert!(!graph.is_null(), "zimg: {}", last_error());
        let mut len = 0;
        // SAFETY: the graph was just built, and `len` can be written.
        let code = unsafe { zimg_filter_graph_get_tmp_size(graph, &mut len) };
        assert!(code == 0, "zimg: {}", last_error());
        let (source, destination) = (Frame::source(work), Frame::empty(work.destination));
        let scratch = vec![CacheLine { _bytes: [0; 64] }; len.div_ceil(size_of::<CacheLine>())];
        Self { graph, source, destination, scratch }
    }

    fn process(&mut self) {
        let source = buffer(&self.source, self.source.bytes().as_ptr());
        let target = self.destination.bytes_mut().as_mut_ptr();
        let destination = buffer(&self.destination, target);
        let scratch = self.scratch.as_mut_ptr().cast();
        let none = ptr::null_mut();
        // SAFETY: by this type's invariant; planes lie within their frames, start on 64 bytes as do
        // their rows, and no callback is given.
        let code = unsafe {
            zimg_filter_graph_process(
                self.graph,
                &source,
                &destination,
                scratch,
                None,
                none,
                None,
                none,
            )
        };
        assert!(code == 0, "zimg: {}", last_error());
    }
}

impl Drop for Zimg {
    fn drop(&mut self) {
        // SAFETY: built in `open`, freed nowhere else.
        unsafe { zimg_filter_graph_free(self.graph) }
    }
}

impl Contender for Zimg {
    fn turn(&mut self) -> f64 {
        timed(|| self.process())
    }

    fn made(&mut self) -> Option<Vec<f32>> {
        Some(self.destination.samples())
    }
}

fn format(spec: FrameSpec) -> ImageFormat {
    assert_eq!(spec.format, PixelFormat::I420, "another format is not compared");
    let mut format = MaybeUninit::uninit();
    // SAFETY: fills the whole structure.
    let default = unsafe {
        zimg_image_format_default(format.as_mut_ptr(), API);
        format.assume_init()
    };
    ImageFormat {
        width: spec.extent.width,
        height: spec.extent.height,
        pixel_type: PIXEL_BYTE,
        subsample_w: 1,
        subsample_h: 1,
        color_family: COLOR_YUV,
        depth: 8,
        pixel_range: match spec.range {
            Range::Limited => RANGE_LIMITED,
            Range::Full => RANGE_FULL,
        },
        chroma_location: match spec.siting {
            Siting::Left => CHROMA_LEFT,
            Siting::Centre => CHROMA_CENTER,
        },
        ..default
    }
}

/// Parameters for the same filter as ours, in luma and in chroma.
fn params(work: &StreamSpec, cpu_type: c_int) -> GraphBuilderParams {
    // Of a cubic B and C; of Lanczos' filter the lobes.
    let (filter, a, b) = match work.filter {
        Filter::Bilinear => (RESIZE_BILINEAR, f64::NAN, f64::NAN),
        Filter::Bicubic => (RESIZE_BICUBIC, 0.0, 0.5),
        Filter::Lanczos3 => (RESIZE_LANCZOS, 3.0, f64::NAN),
        filter => panic!("{filter:?} is not compared"),
    };
    let mut params = MaybeUninit::uninit();
    // SAFETY: fills the whole structure.
    let default = unsafe {
        zimg_graph_builder_params_default(params.as_mut_ptr(), API);
        params.assume_init()
    };
    GraphBuilderParams {
        resample_filter: filter,
        filter_param_a: a,
        filter_param_b: b,
        resample_filter_uv: filter,
        filter_param_a_uv: a,
        filter_param_b_uv: b,
        cpu_type,
        ..default
    }
}

/// The frame's planes, where `start` is the frame's first byte.
fn buffer<P: Pointer>(frame: &Frame, start: P) -> ImageBuffer<P> {
    let plane = |index: usize| match frame.planes().get(index) {
        Some(plane) => PlaneBuffer {
            data: start.ahead(plane.offset),
            stride: plane.stride as isize,
            mask: BUFFER_MAX,
        },
        None => PlaneBuffer { data: P::NULL, stride: 0, mask: 0 },
    };
    ImageBuffer { version: API, plane: std::array::from_fn(plane) }
}

/// What `*const u8` and `*mut u8` have in common.
trait Pointer: Copy {
    const NULL: Self;
    fn ahead(self, bytes: usize) -> Self;
}

impl Pointer for *const u8 {
    const NULL: Self = ptr::null();
    fn ahead(self, bytes: usize) -> Self {
        self.wrapping_add(bytes)
    }
}

impl Pointer for *mut u8 {
    const NULL: Self = ptr::null_mut();
    fn ahead(self, bytes: usize) -> Self {
        self.wrapping_add(bytes)
    }
}

/// `major.minor.micro`, of the library that runs.
pub(crate) fn version() -> String {
    let (mut major, mut minor, mut micro) = (0, 0, 0);
    // SAFETY: all three can be written.
    unsafe { zimg_get_version_info(&mut major, &mut minor, &mut micro) };
    format!("{major}.{minor}.{micro}")
}

fn last_error() -> String {
    let mut message = [0_u8; 256];
    // SAFETY: writes at most `len` bytes, a zero at the end.
    let code = unsafe { zimg_get_last_error(message.as_mut_ptr().cast(), message.len()) };
    let len = message.iter().position(|&byte| byte == 0).unwrap_or(message.len());
    format!("error {code}: {}", String::from_utf8_lossy(&message[..len]))
}
