//! Owns how the header's numbers become the protocol's types, and back.
//!
//! Knows nothing of connections. Invariant: a number that is none of an enum's values is refused
//! here, by name; what the values mean together is for the protocol and the daemon to check.
#![allow(unsafe_code)]

use std::time::Duration;

use resized_client as protocol;
use resized_client::{FrameLayout, Refusal, Tensor};

use crate::abi::{self, Crop, Format, FrameSpec, Placement, Rectangle, StreamSpec};
use crate::memory::{self, Out};
use crate::status::{Failure, Status, call};

/// The two ways between an enum of the header and the protocol's. A value that the protocol alone
/// has does not compile.
macro_rules! alike {
    ($($name:ident { $($value:ident),+ })+) => { $(
        impl abi::$name {
            fn of(value: protocol::$name) -> u32 {
                match value { $(protocol::$name::$value => Self::$value as u32),+ }
            }

            fn parse(number: u32, name: &'static str) -> Result<protocol::$name, Failure> {
                $(if number == Self::$value as u32 { return Ok(protocol::$name::$value); })+
                Err(Failure::Value { name, value: number.into() })
            }
        }
    )+ };
}

alike! {
    Range { Limited, Full }
    Siting { Left, Centre }
    Matrix { Bt601, Bt709, Bt2020 }
    Filter { Nearest, Bilinear, Bicubic, Lanczos3, Area, Mitchell }
    Alpha { Apart, Weighs }
    Align { Start, Centre, End }
    Element { F32, F16, I8 }
    Arrangement { Planar, Interleaved }
    ChannelOrder { Rgb, Bgr }
    Subsampling { Neither, Horizontal, Both }
}

impl Format {
    fn of(format: protocol::PixelFormat) -> Self {
        match format {
            protocol::PixelFormat::Gray8 => Self::Gray8,
            protocol::PixelFormat::I420 => Self::I420,
            protocol::PixelFormat::Nv12 => Self::Nv12,
            protocol::PixelFormat::Rgb24 => Self::Rgb24,
            protocol::PixelFormat::Bgr24 => Self::Bgr24,
            protocol::PixelFormat::Rgba => Self::Rgba,
            protocol::PixelFormat::Bgra => Self::Bgra,
            protocol::PixelFormat::I420P10 => Self::I420P10,
            protocol::PixelFormat::P010 => Self::P010,
            protocol::PixelFormat::Tensor(_) => Self::Tensor,
        }
    }

    fn parse(
        number: u32,
        tensor: Tensor,
        name: &'static str,
    ) -> Result<protocol::PixelFormat, Failure> {
        let plain = protocol::PixelFormat::EIGHT_BIT.into_iter();
        let plain = plain.chain(protocol::PixelFormat::TEN_BIT);
        let mut all = plain.chain([protocol::PixelFormat::Tensor(tensor)]);
        let found = all.find(|&format| Self::of(format) as u32 == number);
        found.ok_or(Failure::Value { name, value: number.into() })
    }
}

impl FrameSpec {
    fn of(spec: &protocol::FrameSpec) -> Self {
        Self {
            format: Format::of(spec.format) as u32,
            width: spec.extent.width,
            height: spec.extent.height,
            range: abi::Range::of(spec.range),
            siting: abi::Siting::of(spec.siting),
            matrix: abi::Matrix::of(spec.matrix),
        }
    }

    fn parse(&self, tensor: Tensor) -> Result<protocol::FrameSpec, Failure> {
        Ok(protocol::FrameSpec {
            format: Format::parse(self.format, tensor, "format")?,
            extent: protocol::Extent::new(self.width, self.height),
            range: abi::Range::parse(self.range, "range")?,
            siting: abi::Siting::parse(self.siting, "siting")?,
            matrix: abi::Matrix::parse(self.matrix, "matrix")?,
        })
    }
}

impl Crop {
    pub(crate) const fn of(crop: protocol::Crop) -> Self {
        let protocol::Crop { left, top, width, height } = crop;
        Self { left, top, width, height }
    }

    pub(crate) const fn parse(self) -> protocol::Crop {
        let Self { left, top, width, height } = self;
        protocol::Crop { left, top, width, height }
    }
}

impl Placement {
    pub(crate) const fn of(placement: &protocol::Placement) -> Self {
        let protocol::Rectangle { left, top, extent } = placement.destination;
        let (width, height) = (extent.width, extent.height);
        let destination = Rectangle { left, top, width, height };
        Self { source: Crop::of(placement.source), destination }
    }

    pub(crate) const fn parse(&self) -> protocol::Placement {
        let Rectangle { left, top, width, height } = self.destination;
        let extent = protocol::Extent::new(width, height);
        let destination = protocol::Rectangle { left, top, extent };
        protocol::Placement { source: self.source.parse(), destination }
    }
}

impl StreamSpec {
    fn of(spec: &protocol::StreamSpec) -> Self {
        let (framing, align, pad) = match spec.framing {
            protocol::Framing::Stretch => (abi::Framing::Stretch, protocol::Align::Centre, [0; 3]),
            protocol::Framing::Fit { align, pad } => (abi::Framing::Fit, align, pad),
            protocol::Framing::Fill => (abi::Framing::Fill, protocol::Align::Centre, [0; 3]),
        };
        let tensor = match spec.destination.format {
            protocol::PixelFormat::Tensor(tensor) => tensor,
            _ => Tensor::default(),
        };
        let jpeg = spec.coding.jpeg_out;
        let subsampling = jpeg.map_or(protocol::Subsampling::Both, |jpeg| jpeg.subsampling);
        Self {
            size: size_of::<Self>(),
            source: FrameSpec::of(&spec.source),
            destination: FrameSpec::of(&spec.destination),
            filter: abi::Filter::of(spec.filter),
            framing: framing as u32,
            align: abi::Align::of(align),
            alpha: abi::Alpha::of(spec.alpha),
            crop: spec.crop.map_or(Crop::default(), Crop::of),
            slots: spec.slots,
            weight: spec.weight,
            deadline_ns: spec
                .deadline
                .map_or(0, |time| time.as_nanos().try_into().unwrap_or(u64::MAX)),
            tensor_element: abi::Element::of(tensor.element),
            tensor_arrangement: abi::Arrangement::of(tensor.arrangement),
            tensor_order: abi::ChannelOrder::of(tensor.order),
            mean: spec.normalisation.mean,
            scale: spec.normalisation.scale,
            jpeg_in: spec.coding.jpeg_in.into(),
            jpeg_quality: jpeg.map_or(0, |jpeg| u8::from(jpeg.quality).into()),
            jpeg_subsampling: abi::Subsampling::of(subsampling),
            pad,
            unused: [0; 5],
        }
    }

    fn parse(&self) -> Result<protocol::StreamSpec, Failure> {
        let tensor = Tensor {
            element: abi::Element::parse(self.tensor_element, "tensor_element")?,
            arrangement: abi::Arrangement::parse(self.tensor_arrangement, "tensor_arrangement")?,
            order: abi::ChannelOrder::parse(self.tensor_order, "tensor_order")?,
        };
        let align = abi::Align::parse(self.align, "align")?;
        if let Some(&value) = self.unused.iter().find(|&&byte| byte != 0) {
            return Err(Failure::Value { name: "unused", value: value.into() });
        }
        Ok(protocol::StreamSpec {
            source: self.source.parse(tensor)?,
            destination: self.destination.parse(tensor)?,
            crop: Some(self.crop).filter(|crop| *crop != Crop::default()).map(Crop::parse),
            framing: match self.framing {
                framing if framing == abi::Framing::Stretch as u32 => protocol::Framing::Stretch,
                framing if framing == abi::Framing::Fit as u32 => {
                    protocol::Framing::Fit { align, pad: self.pad }
                }
                framing if framing == abi::Framing::Fill as u32 => protocol::Framing::Fill,
                framing => return Err(Failure::Value { name: "framing", value: framing.into() }),
            },
            filter: abi::Filter::parse(self.filter, "filter")?,
            alpha: abi::Alpha::parse(self.alpha, "alpha")?,
            normalisation: protocol::Normalisation { mean: self.mean, scale: self.scale },
            slots: self.slots,
            weight: self.weight,
            deadline: Some(self.deadline_ns).filter(|&ns| ns > 0).map(Duration::from_nanos),
            coding: self.coding()?,
        })
    }

    fn coding(&self) -> Result<protocol::Coding, Failure> {
        let bad = |name, value: u32| Failure::Value { name, value: value.into() };
        let subsampling = abi::Subsampling::parse(self.jpeg_subsampling, "jpeg_subsampling")?;
        let jpeg = match self.jpeg_quality {
            0 => None,
            quality => {
                let number = u8::try_from(quality).ok().and_then(protocol::Quality::new);
                let quality = number.ok_or_else(|| bad("jpeg_quality", quality))?;
                Some(protocol::Jpeg { quality, subsampling })
            }
        };
        match self.jpeg_in {
            0 | 1 => Ok(protocol::Coding { jpeg_in: self.jpeg_in == 1, jpeg_out: jpeg }),
            other => Err(bad("jpeg_in", other)),
        }
    }
}

/// The caller's spec.
///
/// # Safety
///
/// A pointer that is neither NULL nor misaligned is one to a spec of the size that it says.
pub(crate) unsafe fn read(spec: *const StreamSpec) -> Result<protocol::StreamSpec, Failure> {
    // Values that an older program does not know would be those of any spec.
    let frame = protocol::FrameSpec::new(protocol::PixelFormat::Gray8, protocol::Extent::new(1, 1));
    let default = StreamSpec::of(&protocol::StreamSpec::new(frame, frame.extent));
    // SAFETY: as promised.
    unsafe { memory::read_sized(spec, default, "spec") }?.parse()
}

/// Where the planes of both frames lie, if they have any.
pub(crate) fn layouts(spec: &protocol::StreamSpec) -> Result<(FrameLayout, FrameLayout), Failure> {
    let layout = |frame: &protocol::FrameSpec, coded| match coded {
        true => FrameLayout::coded(frame.format, frame.extent),
        false => FrameLayout::new(frame.format, frame.extent),
    };
    let refused = |refusal| Failure::Client(protocol::Error::Refused(refusal));
    let source = layout(&spec.source, spec.coding.jpeg_in);
    let destination = layout(&spec.destination, spec.coding.jpeg_out.is_some());
    Ok((
        source.map_err(|error| refused(Refusal::Source(error)))?,
        destination.map_err(|error| refused(Refusal::Destination(error)))?,
    ))
}

/// Fills a spec for frames of width x height pixels of a format (a resized_format) that become
/// frames of to_width x to_height pixels of the same: bicubic, stretched, four slots, in the colour
/// that is usual for the format: limited range and left-sited chroma where that is halved, full
/// range elsewhere; BT.709 where the source has more than 576 rows, else BT.601. A tensor's numbers
/// are float32 from 0 to 1, planar, red first.
///
/// spec_size is sizeof(resized_stream_spec).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_stream_spec_init(
    spec: *mut StreamSpec,
    spec_size: usize,
    format: u32,
    width: u32,
    height: u32,
    to_width: u32,
    to_height: u32,
) -> Status {
    call(|| {
        let format = Format::parse(format, Tensor::default(), "format")?;
        let source = protocol::FrameSpec::new(format, protocol::Extent::new(width, height));
        let filled = protocol::StreamSpec::new(source, protocol::Extent::new(to_width, to_height));
        let filled = StreamSpec { size: spec_size, ..StreamSpec::of(&filled) };
        // SAFETY: the caller's promise, see the crate's page.
        unsafe { memory::write_sized(spec, spec_size, &filled, "spec") }
    })
}

/// Has the stream's results be of another format (a resized_format). What both formats have of a
/// colour stays the source's; the rest is what is usual for the new one: NV12 of limited range becomes
/// RGB24 of full range. Setting destination.format alone leaves the source's range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_stream_spec_with_format(
    spec: *mut StreamSpec,
    format: u32,
) -> Status {
    call(|| {
        // What is in a tensor is said elsewhere in the spec, and stays.
        let format = Format::parse(format, Tensor::default(), "format")?;
        // SAFETY: the caller's promise, see the crate's page.
        let parsed = unsafe { read(spec) }?;
        let destination = FrameSpec::of(&parsed.with_format(format).destination);
        // SAFETY: as promised, and it was read: so it is there, and specs of every size have this.
        unsafe { Out::new(&raw mut (*spec).destination, "spec") }?.put(destination);
        Ok(())
    })
}

/// Bytes of a stream's frames without any padding: plane after plane, row after row. Of JPEGs, the
/// most that one may have. Either pointer may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn resized_stream_spec_lengths(
    spec: *const StreamSpec,
    source: *mut usize,
    destination: *mut usize,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise, see the crate's page.
        let spec = unsafe { read(spec) }?;
        let (from, to) = layouts(&spec)?;
        for (layout, length, name) in [(from, source, "source"), (to, destination, "destination")] {
            if !length.is_null() {
                let bytes =
                    if layout.is_coded() { layout.longest_coded() } else { layout.packed_len() };
                // SAFETY: the caller's promise.
                unsafe { Out::new(length, name) }?.put(bytes);
            }
        }
        Ok(())
    })
}

/// So many milliseconds. `None`: for ever.
pub(crate) fn timeout(ms: i32) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
