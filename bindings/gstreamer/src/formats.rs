//! Owns which of GStreamer's formats are which of the daemon's, and what black is in them.
//!
//! A format stays what it is, and each plane and channel is resized by itself. So formats that differ
//! in the order of those alone are the same to the daemon. Colour is what `GStreamer` takes it for on
//! either side: caps that do not name it mean one thing up to 576 rows and another beyond.

use gst_video::{VideoChromaSite, VideoColorMatrix, VideoColorRange, VideoFormat, VideoInfo};
use resized_client::{Extent, FrameSpec, Matrix, PixelFormat, Range, Siting};

/// The formats that can be resized, the likelier first.
pub(crate) const FORMATS: [VideoFormat; 17] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yv12,
    VideoFormat::Nv21,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Gray8,
    VideoFormat::I42010le,
    VideoFormat::P01010le,
];

/// As the daemon knows it.
const fn pixel_format(format: VideoFormat) -> Option<PixelFormat> {
    Some(match format {
        VideoFormat::I420 | VideoFormat::Yv12 => PixelFormat::I420,
        VideoFormat::Nv12 | VideoFormat::Nv21 => PixelFormat::Nv12,
        VideoFormat::Rgb => PixelFormat::Rgb24,
        VideoFormat::Bgr => PixelFormat::Bgr24,
        VideoFormat::Rgba | VideoFormat::Argb | VideoFormat::Rgbx | VideoFormat::Xrgb => {
            PixelFormat::Rgba
        }
        VideoFormat::Bgra | VideoFormat::Abgr | VideoFormat::Bgrx | VideoFormat::Xbgr => {
            PixelFormat::Bgra
        }
        VideoFormat::Gray8 => PixelFormat::Gray8,
        VideoFormat::I42010le => PixelFormat::I420P10,
        VideoFormat::P01010le => PixelFormat::P010,
        _ => return None,
    })
}

/// A frame of those caps, if its format can be resized.
pub(crate) fn frame_spec(info: &VideoInfo) -> Option<FrameSpec> {
    let extent = Extent::new(info.width(), info.height());
    let usual = FrameSpec::new(pixel_format(info.format())?, extent);
    let colorimetry = info.colorimetry();
    let range = match colorimetry.range() {
        VideoColorRange::Range16_235 => Range::Limited,
        VideoColorRange::Range0_255 => Range::Full,
        _ => usual.range,
    };
    // Where caps say nothing GStreamer takes it for centred up to 576 rows, and for left beyond.
    let siting = match info.chroma_site() {
        unknown if unknown.is_empty() => usual.siting,
        site if site.contains(VideoChromaSite::H_COSITED) => Siting::Left,
        _ => Siting::Centre,
    };
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt601 => Matrix::Bt601,
        VideoColorMatrix::Bt709 => Matrix::Bt709,
        VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        _ => usual.matrix,
    };
    Some(FrameSpec { range, siting, matrix, ..usual })
}

/// A black pixel of each plane of such a frame, opaque.
pub(crate) fn black(info: &VideoInfo, spec: &FrameSpec) -> Vec<Vec<u8>> {
    let least = match spec.range {
        Range::Limited => 16,
        Range::Full => 0,
    };
    // Ten bits, and how far they are shifted.
    let wide = |value: u16, shift: u16| (value << 2 << shift).to_le_bytes();
    match spec.format {
        PixelFormat::Gray8 => vec![vec![least]],
        PixelFormat::I420 => vec![vec![least], vec![128], vec![128]],
        PixelFormat::Nv12 => vec![vec![least], vec![128; 2]],
        PixelFormat::I420P10 => {
            let chroma = wide(128, 0).to_vec();
            vec![wide(least.into(), 0).to_vec(), chroma.clone(), chroma]
        }
        PixelFormat::P010 => vec![wide(least.into(), 6).to_vec(), [wide(128, 6); 2].concat()],
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => vec![vec![least; 3]],
        PixelFormat::Rgba | PixelFormat::Bgra => {
            let mut pixel = vec![least; 4];
            if info.has_alpha() {
                pixel[info.comp_poffset(3) as usize] = 255;
            }
            vec![pixel]
        }
        // No video.
        PixelFormat::Tensor(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resized_client::FrameLayout;

    fn black_of(format: VideoFormat) -> Vec<Vec<u8>> {
        gst::init().unwrap();
        let info = VideoInfo::builder(format, 4, 2).build().unwrap();
        let spec = frame_spec(&info).unwrap();
        let black = black(&info, &spec);
        let layout = FrameLayout::new(spec.format, spec.extent).unwrap();
        assert_eq!(black.len(), layout.planes().len());
        assert_eq!(black.len(), info.n_planes() as usize);
        for (pixel, plane) in black.iter().zip(layout.planes()) {
            assert_eq!(pixel.len(), plane.channels * plane.sample_bytes);
        }
        black
    }

    #[test]
    fn black_has_a_pixel_for_each_plane() {
        FORMATS.into_iter().for_each(|format| drop(black_of(format)));
        assert_eq!(black_of(VideoFormat::P01010le), [vec![0, 16], vec![0, 128, 0, 128]]);
        assert_eq!(black_of(VideoFormat::I42010le), [vec![64, 0], vec![0, 2], vec![0, 2]]);
        assert_eq!(black_of(VideoFormat::Argb), [[255, 0, 0, 0]]);
        assert_eq!(black_of(VideoFormat::Bgra), [[0, 0, 0, 255]]);
    }

    #[test]
    fn colour_is_what_the_caps_say() {
        gst::init().unwrap();
        let of = |text: &str| {
            let caps = format!("video/x-raw,format=I420,width=8,height=720{text}");
            let caps: gst::Caps = caps.parse().unwrap();
            frame_spec(&VideoInfo::from_caps(&caps).unwrap()).unwrap()
        };
        let usual = FrameSpec::new(PixelFormat::I420, Extent::new(8, 720));
        assert_eq!(of(""), usual);
        let low = VideoInfo::builder(VideoFormat::I420, 8, 8).build().unwrap();
        assert_eq!(frame_spec(&low).unwrap().siting, Siting::Centre);
        // GStreamer reads it beside a colorimetry only.
        assert_eq!(of(",colorimetry=bt709,chroma-site=jpeg").siting, Siting::Centre);
        assert_eq!(of(",colorimetry=bt709,chroma-site=mpeg2").siting, Siting::Left);
        assert_eq!(of(",colorimetry=bt601").matrix, Matrix::Bt601);
        assert_eq!(of(",colorimetry=bt709").matrix, Matrix::Bt709);
        assert_eq!(of(",colorimetry=bt2020").matrix, Matrix::Bt2020);
        assert_eq!(of(",colorimetry=1:4:0:0").range, Range::Full);
    }
}
