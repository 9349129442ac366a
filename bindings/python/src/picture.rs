//! Owns how frames lie in arrays: which array a frame of a format and extent is, and where the rows
//! of its planes lie in an array, and in a slot.
//!
//! Knows shapes and strides, no memory. Arrays of planar formats are as OpenCV has them: `(H * 3/2,
//! W)`, luma above chroma. Strides are in bytes.

use std::ffi::CStr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use resized_client::{Arrangement, Element, Extent, FrameLayout, PixelFormat, Plane, Tensor};

/// Formats of frames by name; tensors have none.
pub(crate) const FORMATS: [(&str, PixelFormat); 9] = [
    ("gray", PixelFormat::Gray8),
    ("rgb", PixelFormat::Rgb24),
    ("bgr", PixelFormat::Bgr24),
    ("rgba", PixelFormat::Rgba),
    ("bgra", PixelFormat::Bgra),
    ("i420", PixelFormat::I420),
    ("nv12", PixelFormat::Nv12),
    ("i420p10", PixelFormat::I420P10),
    ("p010", PixelFormat::P010),
];

/// What a format is called here.
pub(crate) fn name(format: PixelFormat) -> &'static str {
    FORMATS.iter().find(|(_, other)| *other == format).map_or("tensor", |(name, _)| name)
}

/// What frames of a format are called, which may be JPEGs.
pub(crate) fn kind(format: PixelFormat, is_jpeg: bool) -> &'static str {
    if is_jpeg { "JPEG" } else { name(format) }
}

/// What the numbers of a format's arrays are: numpy's name, and the struct module's letter.
pub(crate) const fn element(format: PixelFormat) -> (&'static str, &'static CStr) {
    match format {
        PixelFormat::Tensor(Tensor { element: Element::F32, .. }) => ("float32", c"f"),
        PixelFormat::Tensor(Tensor { element: Element::F16, .. }) => ("float16", c"e"),
        PixelFormat::Tensor(Tensor { element: Element::I8, .. }) => ("int8", c"b"),
        PixelFormat::I420P10 | PixelFormat::P010 => ("uint16", c"H"),
        _ => ("uint8", c"B"),
    }
}

/// A frame, but for its pixels and colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) format: PixelFormat,
    pub(crate) extent: Extent,
}

/// Where an array lies in a slot's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lie {
    /// From the start of the frame, in bytes.
    pub(crate) offset: usize,
    pub(crate) shape: Vec<isize>,
    pub(crate) strides: Vec<isize>,
}

impl Lie {
    /// Whether its numbers, of so many bytes, follow each other without a gap.
    pub(crate) fn is_dense(&self, item: usize) -> bool {
        let mut dense = item.cast_signed();
        self.shape.iter().zip(&self.strides).rev().all(|(&len, &stride)| {
            let so = len < 2 || stride == dense;
            dense *= len;
            so
        })
    }
}

/// Where the rows of a plane lie in an array, from its first number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) offset: isize,
    /// From one to the next.
    pub(crate) stride: isize,
    /// Bytes of each.
    pub(crate) bytes: usize,
    pub(crate) count: usize,
}

impl Picture {
    /// The frame that an array of that shape is: of that format; without one, gray, RGB or RGBA.
    pub(crate) fn of(format: Option<PixelFormat>, shape: &[usize]) -> PyResult<Self> {
        let (format, height, width) = match (format, shape) {
            (None | Some(PixelFormat::Gray8), &[height, width]) => {
                (PixelFormat::Gray8, height, width)
            }
            (None, &[height, width, 3]) => (PixelFormat::Rgb24, height, width),
            (None, &[height, width, 4]) => (PixelFormat::Rgba, height, width),
            (Some(format @ (PixelFormat::Rgb24 | PixelFormat::Bgr24)), &[height, width, 3])
            | (Some(format @ (PixelFormat::Rgba | PixelFormat::Bgra)), &[height, width, 4]) => {
                (format, height, width)
            }
            (Some(format), &[rows, width])
                if format.is_subsampled() && rows % 3 == 0 && width % 2 == 0 =>
            {
                (format, rows / 3 * 2, width)
            }
            _ => return Err(no_frame(format, shape)),
        };
        let side = |len: usize| u32::try_from(len).map_err(|_| no_frame(Some(format), shape));
        Ok(Self { format, extent: Extent::new(side(width)?, side(height)?) })
    }

    /// Whether another can stand for it.
    pub(crate) fn check(&self, other: Self) -> PyResult<()> {
        if self.extent == other.extent {
            return Ok(());
        }
        let (wanted, given) = (self.extent, other.extent);
        Err(PyValueError::new_err(format!("the stream's frames are of {wanted}, not of {given}")))
    }

    /// The shape of its array.
    pub(crate) fn shape(&self) -> PyResult<Vec<usize>> {
        let (height, width) = (self.extent.height as usize, self.extent.width as usize);
        let channels = self.format.components()[0].len();
        Ok(match self.format {
            PixelFormat::Tensor(Tensor { arrangement: Arrangement::Planar, .. }) => {
                vec![3, height, width]
            }
            format if format.is_subsampled() => {
                if height % 2 == 1 || width % 2 == 1 {
                    return Err(PyValueError::new_err(format!(
                        "no {} array of {}: both sides must be even; a slot's planes may have any",
                        name(format),
                        self.extent,
                    )));
                }
                vec![height / 2 * 3, width]
            }
            _ if channels == 1 => vec![height, width],
            _ => vec![height, width, channels],
        })
    }

    /// Where the rows of its planes lie in an array of its [`shape`](Self::shape). `None`: not in rows.
    pub(crate) fn rows(&self, strides: &[isize]) -> Option<Vec<Rows>> {
        let shape = self.shape().ok()?;
        let item = self.format.sample_bytes();
        // How far the numbers of the last dimensions are apart if they are dense.
        let dense = |from: usize| {
            let mut wanted = item;
            shape.iter().zip(strides).skip(from).rev().all(|(&len, &stride)| {
                let so = len < 2 || stride == wanted.cast_signed();
                wanted *= len;
                so
            })
        };
        let whole = |from: usize| shape[from..].iter().product::<usize>() * item;
        match self.format {
            PixelFormat::Tensor(Tensor { arrangement: Arrangement::Planar, .. }) => {
                let plane = |index: isize| Rows {
                    offset: strides[0] * index,
                    stride: strides[1],
                    bytes: whole(2),
                    count: shape[1],
                };
                dense(2).then(|| (0..3).map(plane).collect())
            }
            // Rows of chroma lie two in a row of the array.
            PixelFormat::I420 | PixelFormat::I420P10 => {
                let (luma, row) = (self.extent.height as usize, whole(1));
                let plane = |offset: usize, bytes: usize, count: usize| Rows {
                    offset: offset.cast_signed(),
                    stride: bytes.cast_signed(),
                    bytes,
                    count,
                };
                let chroma = |offset| plane(offset, row / 2, luma / 2);
                let (first, second) = (luma * row, luma * row / 4 * 5);
                dense(0).then(|| vec![plane(0, row, luma), chroma(first), chroma(second)])
            }
            format => {
                let luma = self.extent.height as usize;
                let plane = |above: usize, count: usize| Rows {
                    offset: strides[0] * above.cast_signed(),
                    stride: strides[0],
                    bytes: whole(1),
                    count,
                };
                let chroma = format.is_subsampled().then(|| plane(luma, luma / 2));
                dense(1).then(|| [plane(0, luma)].into_iter().chain(chroma).collect())
            }
        }
    }

    /// Where its array lies in a slot. `None`: the planes there are no array.
    pub(crate) fn whole(&self, layout: &FrameLayout) -> Option<Lie> {
        let shape = self.shape().ok()?;
        let [first, rest @ ..] = layout.planes() else { return None };
        let below = first.offset + first.stride * first.rows();
        let strides = match (self.format, rest) {
            (PixelFormat::Tensor(_), [second, ..]) => {
                vec![second.offset - first.offset, first.stride, first.sample_bytes]
            }
            (_, [_, _]) if first.stride != first.row_bytes() => return None,
            (_, [chroma, _]) if chroma.stride != chroma.row_bytes() => return None,
            (_, [chroma, ..]) if chroma.offset != below => return None,
            (_, [chroma]) if chroma.stride != first.stride => return None,
            _ if shape.len() == 2 => vec![first.stride, first.sample_bytes],
            _ => vec![first.stride, first.channels * first.sample_bytes, first.sample_bytes],
        };
        Some(Lie { offset: first.offset, shape: signed(shape), strides: signed(strides) })
    }

    /// Where each plane lies in a slot, as an array of its own: rows and columns, and channels
    /// where there are several.
    pub(crate) fn planes(layout: &FrameLayout) -> Vec<Lie> {
        let lie = |plane: &Plane| {
            let (mut shape, mut strides) = (
                vec![plane.rows(), plane.extent.width as usize],
                vec![plane.stride, plane.channels * plane.sample_bytes],
            );
            if plane.channels > 1 {
                shape.push(plane.channels);
                strides.push(plane.sample_bytes);
            }
            Lie { offset: plane.offset, shape: signed(shape), strides: signed(strides) }
        };
        layout.planes().iter().map(lie).collect()
    }
}

fn signed(lens: Vec<usize>) -> Vec<isize> {
    lens.into_iter().map(usize::cast_signed).collect()
}

fn no_frame(format: Option<PixelFormat>, shape: &[usize]) -> PyErr {
    let wanted = match format {
        None => "(H, W), (H, W, 3) or (H, W, 4); other formats have to be named",
        Some(PixelFormat::Gray8) => "(H, W)",
        Some(PixelFormat::Rgb24 | PixelFormat::Bgr24) => "(H, W, 3)",
        Some(PixelFormat::Rgba | PixelFormat::Bgra) => "(H, W, 4)",
        Some(PixelFormat::Tensor(_)) => "nothing: tensors are only made",
        Some(_) => "(H * 3/2, W), both sides even",
    };
    let frame = format.map_or("frame", name);
    // As bytes have.
    let hint = if shape.len() == 1 { "; JPEGs are for streams with jpeg_in=True" } else { "" };
    PyValueError::new_err(format!(
        "no {frame} array has the shape {shape:?}: wanted is {wanted}{hint}"
    ))
}
