//! Owns what the tests stand on: a folder with a daemon's socket in it, GStreamer with the element in
//! this process, and frames of noise.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::thread;

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFrameFlags, VideoFrameRef, VideoInfo, VideoMeta};
use resized::{Devices, Limits, Listener, Options, Peers, Server};
use resized_client::{Client, Endpoint, Extent, FrameSpec, PixelFormat, Siting, StreamSpec};
use tempfile::TempDir;

/// GStreamer, which knows the element.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstresized::plugin_register_static().unwrap();
    });
}

/// A folder, and a daemon that can be reached there.
pub(crate) struct Studio {
    dir: TempDir,
    limits: Limits,
    daemon: Option<Server>,
}

impl Studio {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let mut studio = Self { dir: tempfile::tempdir().unwrap(), limits, daemon: None };
        studio.start();
        studio
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir().join("resized.sock")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    pub(crate) fn start(&mut self) {
        let listener = Listener::bind(&self.socket(), Peers::Owner).unwrap();
        let (devices, limits) = (Devices::Cpu, self.limits);
        let options = Options { devices, limits, ..Options::default() };
        self.daemon = Some(Server::at(listener, options).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let ended = daemon.stop();
            assert!(ended.is_ok() || thread::panicking(), "{ended:?}");
        }
    }

    /// What the client makes of packed frames.
    pub(crate) fn resized(&self, spec: &StreamSpec, packed: &[u8]) -> Vec<u8> {
        let client = Client::connect(&Endpoint::Unix(self.socket())).unwrap();
        let stream = client.open(spec).unwrap();
        let len = stream.loan().unwrap().layout().packed_len();
        assert!(!packed.is_empty() && packed.len().is_multiple_of(len));
        let resize = |packed: &[u8]| {
            let mut slot = stream.loan().unwrap();
            slot.write_packed(packed).unwrap();
            slot.submit().unwrap().wait().unwrap().to_packed()
        };
        packed.chunks(len).flat_map(resize).collect()
    }

    /// The element, which posts what it has to say on that bus.
    pub(crate) fn element(&self) -> (gst::Element, gst::Bus) {
        init();
        let element = gst::ElementFactory::make("resizedscale")
            .property("endpoint", self.endpoint())
            .build()
            .unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        (element, bus)
    }

    /// The element between two pads that the test holds.
    pub(crate) fn harness(
        &self,
        from: &str,
        to: &str,
    ) -> (gst_check::Harness, gst::Element, gst::Bus) {
        let (element, bus) = self.element();
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_caps(caps(from), caps(to));
        (harness, element, bus)
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Raw video of that description, 25 frames a second unless it says otherwise.
pub(crate) fn caps(text: &str) -> gst::Caps {
    init();
    format!("video/x-raw,framerate=25/1,{text}").parse().unwrap()
}

pub(crate) fn info(text: &str) -> VideoInfo {
    VideoInfo::from_caps(&caps(text)).unwrap()
}

/// A frame of noise, whose rows lie so many bytes further apart than they must.
pub(crate) fn noise(info: &VideoInfo, further: usize) -> gst::Buffer {
    let strides: Vec<_> = info.stride().iter().map(|&stride| stride as usize + further).collect();
    let mut offsets = Vec::new();
    let mut len = 0;
    for (plane, stride) in strides.iter().enumerate() {
        offsets.push(len + further);
        len += further + stride * info.comp_height(plane as u8) as usize;
    }
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut byte = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u8
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| byte()).collect();
    if info.format() == gst_video::VideoFormat::I42010le {
        // No more than ten bits hold.
        bytes.chunks_exact_mut(2).for_each(|sample| sample[1] &= 3);
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let made = buffer.make_mut();
    made.set_pts(gst::ClockTime::from_mseconds(40));
    let strides: Vec<_> = strides.iter().map(|&stride| stride as i32).collect();
    let (flags, format) = (VideoFrameFlags::empty(), info.format());
    VideoMeta::add_full(made, flags, format, info.width(), info.height(), &offsets, &strides)
        .unwrap();
    buffer
}

/// A buffer's frame, plane after plane, row after row, without padding.
pub(crate) fn packed(buffer: &gst::BufferRef, info: &VideoInfo) -> Vec<u8> {
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let mut packed = Vec::new();
    for plane in 0..info.n_planes() {
        let component = plane as u8;
        let row = info.comp_width(component) as usize * info.comp_pstride(component) as usize;
        let stride = frame.plane_stride()[plane as usize] as usize;
        let rows = frame.plane_data(plane).unwrap().chunks(stride);
        for bytes in rows.take(info.comp_height(component) as usize) {
            packed.extend_from_slice(&bytes[..row]);
        }
    }
    packed
}

/// What the element makes of frames whose caps say nothing of their colour, and have few rows.
pub(crate) fn spec(format: PixelFormat, from: (u32, u32), to: (u32, u32)) -> StreamSpec {
    let extent = |(width, height)| Extent::new(width, height);
    let source = FrameSpec { siting: Siting::Centre, ..FrameSpec::new(format, extent(from)) };
    StreamSpec::new(source, extent(to))
}

/// What errors a bus has to tell.
pub(crate) fn errors(bus: &gst::Bus) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        if let gst::MessageView::Error(error) = message.view() {
            said.push(error.error().to_string());
        }
    }
    said
}
