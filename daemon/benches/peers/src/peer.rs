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
    FastImageResize,
    PicScale,
    OpenCvCubic,
    OpenCvArea,
    Pillow,
    /// No resizer: what moving the bytes alone costs.
    Floor,
}

/// Why a peer can't take part on this machine.
pub(crate) struct Absent(pub(crate) String);

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zimg => "zimg",
            Self::ZimgAvx2 => "zimg AVX2",
            Self::Swscale => "swscale",
            Self::FastImageResize => "fast_image_resize",
            Self::PicScale => "pic-scale",
            Self::OpenCvCubic => "OpenCV INTER_CUBIC",
            Self::OpenCvArea => "OpenCV INTER_AREA",
            Self::Pillow => "Pillow",
            Self::Floor => "floor",
        }
    }

    pub(crate) fn open(self, work: &StreamSpec) -> Result<Box<dyn Contender>, Absent> {
        Ok(match self {
            Self::Zimg => Box::new(zimg::Zimg::open(work, zimg::CPU_AUTO_64B)),
            Self::ZimgAvx2 => Box::new(zimg::Zimg::open(work, zimg::CPU_X86_AVX2)),
            Self::Swscale => Box::new(swscale::Swscale::open(work)),
            Self::FastImageResize => Box::new(fast_image_resize::open(work)),
            Self::PicScale => Box::new(pic_scale::open(work)),
            Self::OpenCvCubic => Box::new(python::Python::open(work, self.name())?),
            Self::OpenCvArea => Box::new(python::Python::open(work, self.name())?),
            Self::Pillow => Box::new(python::Python::open(work, self.name())?),
            Self::Floor => Box::new(floor::Floor::open(work)),
        })
    }

    /// In what its work is not quite ours.
    pub(crate) const fn note(self, filter: Filter) -> &'static str {
        match (self, filter) {
            (Self::Zimg | Self::ZimgAvx2, _) => "mirrors at the borders",
            (Self::Swscale, Filter::Bicubic) => "its cubic has C = 0.6, ours 0.5",
            (Self::FastImageResize, _) => "computes its weights for each frame",
            (Self::OpenCvCubic, _) => "not antialiased; its cubic has C = 0.75",
            (Self::OpenCvArea, _) => "another filter: the mean of an area",
            (Self::Pillow, _) => "allocates each result",
            _ => "",
        }
    }

    /// How far its result may be from ours. Borders, and 8 bits between the passes where we keep more,
    /// show in few samples: in the maximum alone.
    pub(crate) const fn tolerance(self) -> Difference {
        let (mean, max) = match self {
            Self::Zimg | Self::ZimgAvx2 => (0.1, 12.0),
            Self::Swscale => (0.8, 12.0),
            Self::FastImageResize | Self::PicScale => (0.4, 20.0),
            Self::Pillow => (0.3, 3.0),
            // Means of another filter, or of few of the samples: only the slope is the same.
            Self::OpenCvArea => (5.0, 30.0),
            Self::OpenCvCubic => (25.0, 80.0),
            Self::Floor => (0.0, 0.0),
        };
        Difference { mean, max }
    }
}

/// Of those that are not pinned in Cargo.lock.
pub(crate) fn versions() -> String {
    format!("zimg {}, swscale {}, {}", zimg::version(), swscale::version(), python::versions())
}
