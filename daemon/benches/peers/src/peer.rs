//! Owns the list of peers: their names, how they are opened, and in what their work is not ours.

mod fast_image_resize;
mod floor;
mod pic_scale;
mod planes;
mod python;
mod swscale;
mod zimg;

use resized_protocol::message::{Filter, StreamSpec};

use crate::turn::{Contender, Difference};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// With whatever this CPU has; by default zimg leaves AVX-512 alone.
    Zimg,
    /// Capped, to what its default comes to on any recent x86.
    ZimgAvx2,
    Swscale,
    SwscaleFullChroma,
    FastImageResize,
    PicScale,
    OpenCv(Interpolation),
    /// A tensor instead of a picture.
    OpenCvTensor(Interpolation, Way),
    Pillow,
    /// No resizer: what moving the bytes alone costs.
    Floor,
}

/// Of OpenCV; it antialiases in none but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interpolation {
    Linear,
    Cubic,
    Area,
}

/// How OpenCV's users come to a tensor; `server.py` has the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As it is mostly written.
    Numpy,
    /// With OpenCV's own function for networks.
    Blob,
    /// As fast as OpenCV was found to allow.
    Tuned,
}

impl Interpolation {
    const fn name(self) -> &'static str {
        match self {
            Self::Linear => "INTER_LINEAR",
            Self::Cubic => "INTER_CUBIC",
            Self::Area => "INTER_AREA",
        }
    }

    /// In what it is not our filter.
    const fn note(self) -> &'static str {
        match self {
            Self::Linear => "not antialiased",
            Self::Cubic => "not antialiased; its cubic has C = 0.75",
            Self::Area => "another filter: the mean of an area",
        }
    }
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Numpy => "numpy",
            Self::Blob => "blob",
            Self::Tuned => "tuned",
        }
    }

    const fn note(self) -> &'static str {
        match self {
            Self::Numpy => "allocates as numpy does",
            Self::Blob => "blobFromImageWithParams",
            Self::Tuned => "converts the small picture, pads once",
        }
    }
}

/// Why a peer can't take part on this machine.
pub(crate) struct Absent(pub(crate) String);

impl Peer {
    /// To `server.py` too.
    pub(crate) fn name(self) -> String {
        let name = match self {
            Self::OpenCv(interpolation) => return format!("OpenCV {}", interpolation.name()),
            Self::OpenCvTensor(interpolation, way) => {
                return format!("OpenCV {}, {}", interpolation.name(), way.name());
            }
            Self::Zimg => "zimg",
            Self::ZimgAvx2 => "zimg AVX2",
            Self::Swscale => "swscale",
            Self::SwscaleFullChroma => "swscale, full chroma",
            Self::FastImageResize => "fast_image_resize",
            Self::PicScale => "pic-scale",
            Self::Pillow => "Pillow",
            Self::Floor => "floor",
        };
        name.to_owned()
    }

    pub(crate) fn open(self, work: &StreamSpec) -> Result<Box<dyn Contender>, Absent> {
        Ok(match self {
            Self::Zimg => Box::new(zimg::Zimg::open(work, zimg::CPU_AUTO_64B)),
            Self::ZimgAvx2 => Box::new(zimg::Zimg::open(work, zimg::CPU_X86_AVX2)),
            Self::Swscale => Box::new(swscale::Swscale::open(work)),
            Self::SwscaleFullChroma => Box::new(swscale::Swscale::with_full_chroma(work)),
            Self::FastImageResize => Box::new(fast_image_resize::open(work)),
            Self::PicScale => Box::new(pic_scale::open(work)),
            Self::OpenCv(_) | Self::OpenCvTensor(..) | Self::Pillow => {
                Box::new(python::Python::open(work, &self.name())?)
            }
            Self::Floor => Box::new(floor::Floor::open(work)),
        })
    }

    /// In what its work is not quite ours.
    pub(crate) fn note(self, work: &StreamSpec) -> String {
        let converts = work.source.format != work.destination.format;
        let note = match (self, work.filter) {
            (Self::OpenCvTensor(interpolation, way), _) => {
                return format!("{}; {}", interpolation.note(), way.note());
            }
            (Self::OpenCv(interpolation), _) => interpolation.note(),
            (Self::Swscale, _) if converts => "chroma at half the width",
            (Self::Zimg | Self::ZimgAvx2, _) => "mirrors at the borders",
            (Self::Swscale | Self::SwscaleFullChroma, Filter::Bicubic) => {
                "its cubic has C = 0.6, ours 0.5"
            }
            (Self::FastImageResize, _) => "computes its weights for each frame",
            (Self::Pillow, _) => "allocates each result",
            _ => "",
        };
        note.to_owned()
    }

    /// How far its result may be from ours. Borders, and 8 bits between the passes where we keep more,
    /// show in few samples: in the maximum alone.
    pub(crate) fn tolerance(self, work: &StreamSpec) -> Difference {
        let converts = work.source.format != work.destination.format;
        let (mean, max) = match self {
            Self::Zimg | Self::ZimgAvx2 => (0.1, 12.0),
            // Colours from tables that round down, and of pairs of pixels.
            Self::Swscale if converts => (2.0, 8.0),
            Self::SwscaleFullChroma => (0.3, 2.0),
            Self::Swscale => (0.8, 12.0),
            Self::FastImageResize | Self::PicScale => (0.4, 20.0),
            Self::Pillow => (0.3, 3.0),
            // Means of another filter, or of few of the samples: only the slope is the same.
            Self::OpenCv(Interpolation::Area) => (5.0, 30.0),
            Self::OpenCv(_) => (25.0, 80.0),
            // On waves, where another filter does little.
            Self::OpenCvTensor(..) => (1.0, 8.0),
            Self::Floor => (0.0, 0.0),
        };
        Difference { mean, max }
    }
}

/// Of those that are not pinned in Cargo.lock.
pub(crate) fn versions() -> String {
    format!("zimg {}, swscale {}, {}", zimg::version(), swscale::version(), python::versions())
}
