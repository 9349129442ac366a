//! Owns the words by which Python says what a stream does: keyword arguments, and the spec that
//! they make.
//!
//! Knows no memory and no daemon. What is not said is as for Rust's clients. What Python's `help` says of
//! them is `options.txt`, by a test the words of `resized.pyi`.

use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use resized_client::{
    Align, Alpha, Arrangement, ChannelOrder, Coding, Crop, Element, Extent, Filter, FrameSpec,
    Framing, Jpeg, Matrix, PixelFormat, Quality, Range, Siting, StreamSpec, Subsampling, Tensor,
};

use crate::picture::{FORMATS, Picture, name};
use crate::waiting::SECONDS;

const MODES: [(&str, Framing); 3] = [
    ("stretch", Framing::Stretch),
    ("fit", Framing::Fit { align: Align::Centre, pad: [0; 3] }),
    ("fill", Framing::Fill),
];
const ALIGNS: [(&str, Align); 3] =
    [("start", Align::Start), ("centre", Align::Centre), ("end", Align::End)];
const ALPHAS: [(&str, Alpha); 2] = [("apart", Alpha::Apart), ("weighs", Alpha::Weighs)];
const RANGES: [(&str, Range); 2] = [("limited", Range::Limited), ("full", Range::Full)];
const SITINGS: [(&str, Siting); 2] = [("left", Siting::Left), ("centre", Siting::Centre)];
const MATRICES: [(&str, Matrix); 3] =
    [("bt601", Matrix::Bt601), ("bt709", Matrix::Bt709), ("bt2020", Matrix::Bt2020)];
const NUMBERS: [(&str, Numbers); 4] = [
    ("uint8", Numbers::Bytes),
    ("float32", Numbers::Tensor(Element::F32)),
    ("float16", Numbers::Tensor(Element::F16)),
    ("int8", Numbers::Tensor(Element::I8)),
];
const LAYOUTS: [(&str, Arrangement); 2] =
    [("chw", Arrangement::Planar), ("hwc", Arrangement::Interleaved)];
const ORDERS: [(&str, ChannelOrder); 2] = [("rgb", ChannelOrder::Rgb), ("bgr", ChannelOrder::Bgr)];
const SUBSAMPLINGS: [(&str, Subsampling); 3] = [
    ("4:4:4", Subsampling::Neither),
    ("4:2:2", Subsampling::Horizontal),
    ("4:2:0", Subsampling::Both),
];

/// What `mean` and `scale` are.
const THREE: &str = "three numbers, one for each channel";

/// What a size is.
const SIZE: &str = "(width, height), in pixels; one may be None, and follows from the shape";

/// What a quality is.
const QUALITY: &str = "a whole number from 1 to 100";

/// What the results' numbers are.
#[derive(Clone, Copy)]
enum Numbers {
    /// A picture's, of a format that has such.
    Bytes,
    Tensor(Element),
}

/// A result's size, of which one side may follow from the shape of what is resized.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Both(Extent),
    Width(u32),
    Height(u32),
}

impl Size {
    pub(crate) fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match said::<[Option<u32>; 2]>("size", value, SIZE)? {
            [Some(width), Some(height)] => Ok(Self::Both(Extent::new(width, height))),
            [Some(width), None] => Ok(Self::Width(width)),
            [None, Some(height)] => Ok(Self::Height(height)),
            [None, None] => Err(unfit("size", value, SIZE, false)),
        }
    }

    /// For what is seen of a source, in a frame of that format: the side that follows is even where
    /// that has halved chroma, so it is counted in steps.
    fn extent(self, seen: Crop, format: PixelFormat) -> Extent {
        let step = if format.is_subsampled() { 2 } else { 1 };
        match self {
            Self::Both(extent) => extent,
            Self::Width(to) => {
                let seen = Crop { height: seen.height / f64::from(step), ..seen };
                let steps = seen.fit(Extent::new(to, u32::MAX)).height;
                Extent::new(to, steps.saturating_mul(step))
            }
            Self::Height(to) => {
                let seen = Crop { width: seen.width / f64::from(step), ..seen };
                let steps = seen.fit(Extent::new(u32::MAX, to)).width;
                Extent::new(steps.saturating_mul(step), to)
            }
        }
    }
}

/// A frame's colour, as far as it was said.
#[derive(Default)]
struct Colour {
    range: Option<Range>,
    matrix: Option<Matrix>,
    siting: Option<Siting>,
}

impl Colour {
    fn of(&self, usual: FrameSpec) -> FrameSpec {
        FrameSpec {
            range: self.range.unwrap_or(usual.range),
            matrix: self.matrix.unwrap_or(usual.matrix),
            siting: self.siting.unwrap_or(usual.siting),
            ..usual
        }
    }
}

/// Keyword arguments of `Client.resize` and `Client.stream`.
#[derive(Default)]
pub(crate) struct Options {
    to: Option<PixelFormat>,
    numbers: Option<Numbers>,
    layout: Option<Arrangement>,
    order: Option<ChannelOrder>,
    mean: Option<[f32; 3]>,
    scale: Option<[f32; 3]>,
    source: Colour,
    destination: Colour,
    filter: Option<Filter>,
    framing: Option<Framing>,
    align: Option<Align>,
    pad: Option<[u8; 3]>,
    crop: Option<Crop>,
    alpha: Option<Alpha>,
    slots: Option<u32>,
    weight: Option<u32>,
    deadline: Option<Duration>,
    jpeg_in: bool,
    jpeg_out: bool,
    quality: Option<Quality>,
    subsampling: Option<Subsampling>,
}

impl Options {
    pub(crate) fn of(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut options = Self::default();
        for (key, value) in keywords.into_iter().flatten() {
            // As if it had not been said.
            if !value.is_none() {
                options.set(&key.cast::<PyString>()?.to_cow()?, &value)?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match key {
            "to" => self.to = Some(word(key, value, &FORMATS)?),
            "dtype" => self.numbers = Some(numbers(value)?),
            "layout" => self.layout = Some(word(key, value, &LAYOUTS)?),
            "order" => self.order = Some(word(key, value, &ORDERS)?),
            "mean" => self.mean = Some(said(key, value, THREE)?),
            "scale" => self.scale = Some(said(key, value, THREE)?),
            "range" => self.source.range = Some(word(key, value, &RANGES)?),
            "matrix" => self.source.matrix = Some(word(key, value, &MATRICES)?),
            "siting" => self.source.siting = Some(word(key, value, &SITINGS)?),
            "to_range" => self.destination.range = Some(word(key, value, &RANGES)?),
            "to_matrix" => self.destination.matrix = Some(word(key, value, &MATRICES)?),
            "to_siting" => self.destination.siting = Some(word(key, value, &SITINGS)?),
            "filter" => {
                self.filter = Some(word(key, value, &Filter::ALL.map(|it| (it.name(), it)))?);
            }
            "mode" => self.framing = Some(word(key, value, &MODES)?),
            "align" => self.align = Some(word(key, value, &ALIGNS)?),
            "pad" => self.pad = Some(said(key, value, "three numbers from 0 to 255")?),
            "crop" => self.crop = Some(crop(value)?),
            "alpha" => self.alpha = Some(word(key, value, &ALPHAS)?),
            "slots" => self.slots = Some(said(key, value, "a number of slots, 1 or more")?),
            "weight" => self.weight = Some(said(key, value, "a whole number, 1 or more")?),
            "deadline" => {
                let seconds: f64 = said(key, value, SECONDS)?;
                let duration = Duration::try_from_secs_f64(seconds);
                self.deadline = match duration {
                    _ if seconds == f64::INFINITY => None,
                    Ok(duration) => Some(duration),
                    Err(_) => return Err(unfit(key, value, SECONDS, false)),
                };
            }
            "jpeg_in" => self.jpeg_in = said(key, value, "True or False")?,
            "jpeg_out" => self.jpeg_out = said(key, value, "True or False")?,
            "quality" => {
                let quality = Quality::new(said(key, value, QUALITY)?);
                self.quality = Some(quality.ok_or_else(|| unfit(key, value, QUALITY, false))?);
            }
            "subsampling" => self.subsampling = Some(word(key, value, &SUBSAMPLINGS)?),
            _ => return Err(PyTypeError::new_err(format!("unexpected keyword argument '{key}'"))),
        }
        Ok(())
    }

    /// What frames like that become, of that size. With so many slots where nobody said how many.
    pub(crate) fn asked(&self, source: Picture, size: Size, slots: u32) -> PyResult<StreamSpec> {
        let format = self.made()?.unwrap_or(source.format);
        let bytes = match format {
            PixelFormat::I420P10 => Some(PixelFormat::I420),
            PixelFormat::P010 => Some(PixelFormat::Nv12),
            _ => None,
        };
        if let (Some(Numbers::Bytes), Some(bytes)) = (self.numbers, bytes) {
            let (format, bytes) = (name(format), name(bytes));
            return Err(PyValueError::new_err(format!(
                "dtype='uint8', but {format} frames hold uint16: give to='{bytes}'"
            )));
        }
        let seen = self.crop.unwrap_or(Crop::whole(source.extent));
        self.spec(source, size.extent(seen, format), slots)
    }

    /// What frames like that become. With so many slots where nobody said how many.
    pub(crate) fn spec(&self, source: Picture, size: Extent, slots: u32) -> PyResult<StreamSpec> {
        let usual = if self.jpeg_in { FrameSpec::jpeg } else { FrameSpec::new };
        let source = self.source.of(usual(source.format, source.extent));
        let mut spec = StreamSpec::new(source, size);
        if let Some(format) = self.made()? {
            spec = spec.with_format(format);
        }
        spec.coding = self.coding()?;
        if spec.coding.jpeg_out.is_some() {
            spec.destination = as_jpeg(spec.destination);
        }
        spec.destination = self.destination.of(spec.destination);
        spec.framing = self.framed()?;
        spec.crop = self.crop;
        spec.filter = self.filter.unwrap_or(spec.filter);
        spec.alpha = self.alpha.unwrap_or(spec.alpha);
        spec.normalisation.mean = self.mean.unwrap_or(spec.normalisation.mean);
        spec.normalisation.scale = self.scale.unwrap_or(spec.normalisation.scale);
        spec.slots = self.slots.unwrap_or(slots);
        spec.weight = self.weight.unwrap_or(spec.weight);
        spec.deadline = self.deadline;
        Ok(spec)
    }

    /// The format that was asked for, if any was.
    fn made(&self) -> PyResult<Option<PixelFormat>> {
        let Some(Numbers::Tensor(element)) = self.numbers else {
            let said = [
                ("layout", self.layout.is_some()),
                ("order", self.order.is_some()),
                ("mean", self.mean.is_some()),
                ("scale", self.scale.is_some()),
            ];
            return match said.into_iter().find(|(_, said)| *said) {
                Some((key, _)) => Err(PyValueError::new_err(format!(
                    "{key}= is for tensors: give dtype='float32', 'float16' or 'int8'"
                ))),
                None => Ok(self.to),
            };
        };
        if self.to.is_some() {
            return Err(PyValueError::new_err(
                "to= names a picture's format, dtype= a tensor's: not both",
            ));
        }
        let arrangement = self.layout.unwrap_or(Arrangement::Planar);
        let order = self.order.unwrap_or(ChannelOrder::Rgb);
        Ok(Some(PixelFormat::Tensor(Tensor { element, arrangement, order })))
    }

    fn coding(&self) -> PyResult<Coding> {
        if !self.jpeg_out {
            let said =
                [("quality", self.quality.is_some()), ("subsampling", self.subsampling.is_some())];
            return match said.into_iter().find(|(_, said)| *said) {
                Some((key, _)) => Err(PyValueError::new_err(format!(
                    "{key}= is for results that are JPEGs: give jpeg_out=True"
                ))),
                None => Ok(Coding { jpeg_in: self.jpeg_in, jpeg_out: None }),
            };
        }
        if let Some(Numbers::Tensor(_)) = self.numbers {
            return Err(PyValueError::new_err(
                "jpeg_out= makes JPEGs of the results, dtype= tensors: not both",
            ));
        }
        let quality = self.quality.unwrap_or_default();
        let subsampling = self.subsampling.unwrap_or(Subsampling::Both);
        Ok(Coding { jpeg_in: self.jpeg_in, jpeg_out: Some(Jpeg { quality, subsampling }) })
    }

    fn framed(&self) -> PyResult<Framing> {
        let framing = self.framing.unwrap_or_default();
        match framing {
            Framing::Fit { align, pad } => Ok(Framing::Fit {
                align: self.align.unwrap_or(align),
                pad: self.pad.unwrap_or(pad),
            }),
            _ if self.align.is_some() || self.pad.is_some() => {
                Err(PyValueError::new_err("align= and pad= are for mode='fit'"))
            }
            _ => Ok(framing),
        }
    }
}

/// A frame as JPEGs have its colour. Only chroma of theirs has a matrix and a place: what has none keeps the
/// source's, so that the pass that resizes it need not convert it.
const fn as_jpeg(frame: FrameSpec) -> FrameSpec {
    match frame.format.is_subsampled() {
        true => FrameSpec::jpeg(frame.format, frame.extent),
        false => FrameSpec { range: Range::Full, ..frame },
    }
}

/// What a word means.
fn word<T: Copy>(key: &str, value: &Bound<'_, PyAny>, words: &[(&str, T)]) -> PyResult<T> {
    let text = value.cast::<PyString>().ok();
    let text = text.map(|text| text.to_cow()).transpose()?;
    let found = words.iter().find(|(word, _)| text.as_deref() == Some(word));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words = words.iter().map(|(word, _)| format!("'{word}'")).collect::<Vec<_>>();
        unfit(key, value, &format!("one of {}", words.join(", ")), text.is_none())
    })
}

/// Numbers, and what they should be if they are not.
fn said<'a, 'py, T: FromPyObject<'a, 'py>>(
    key: &str,
    value: &'a Bound<'py, PyAny>,
    wanted: &str,
) -> PyResult<T> {
    value.extract().map_err(|error: T::Error| {
        let (error, py): (PyErr, _) = (error.into(), value.py());
        let is_type = error.is_instance_of::<PyTypeError>(py);
        let is_value = error.is_instance_of::<PyValueError>(py);
        match is_type || is_value || error.is_instance_of::<PyOverflowError>(py) {
            true => unfit(key, value, wanted, is_type),
            // What came out of the value's own code.
            false => error,
        }
    })
}

fn unfit(key: &str, value: &Bound<'_, PyAny>, wanted: &str, is_type: bool) -> PyErr {
    let shown = value.repr().map_or_else(|_| "...".into(), |shown| shown.to_string());
    let message = format!("{key}={shown:.80}: wanted is {wanted}");
    if is_type { PyTypeError::new_err(message) } else { PyValueError::new_err(message) }
}

/// A source's size by its width and height.
pub(crate) fn source_extent(value: &Bound<'_, PyAny>) -> PyResult<Extent> {
    let [width, height] = said("source_size", value, "(width, height), in pixels")?;
    Ok(Extent::new(width, height))
}

/// A format by its name.
pub(crate) fn format(value: &Bound<'_, PyAny>) -> PyResult<PixelFormat> {
    word("format", value, &FORMATS)
}

/// What numbers are, by their name or what numpy takes for one.
fn numbers(value: &Bound<'_, PyAny>) -> PyResult<Numbers> {
    if value.is_instance_of::<PyString>() {
        return word("dtype", value, &NUMBERS);
    }
    static DTYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let dtype = DTYPE.import(value.py(), "numpy", "dtype")?.call1((value,))?;
    word("dtype", &dtype.getattr("name")?, &NUMBERS)
}

fn crop(value: &Bound<'_, PyAny>) -> PyResult<Crop> {
    let [left, top, width, height] = said("crop", value, "(left, top, width, height), in pixels")?;
    Ok(Crop { left, top, width, height })
}
