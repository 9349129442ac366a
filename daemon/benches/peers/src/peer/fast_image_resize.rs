//! Owns fast_image_resize, by its typed interface: the other one instantiates every pixel type, which
//! takes minutes to compile.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3, U8x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use resized_protocol::frame::{Extent, Plane};
use resized_protocol::message::{Filter, StreamSpec};

use super::planes::{PlaneByPlane, ResizePlane};

pub(crate) fn open(work: &StreamSpec) -> PlaneByPlane {
    let filter = match work.filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
        filter => panic!("{filter:?} is not compared"),
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    PlaneByPlane::open(work, |from, to| plane(from, to, options))
}

fn plane(from: &Plane, to: &Plane, options: ResizeOptions) -> ResizePlane {
    match from.channels {
        1 => typed::<U8>(from.extent, to.extent, options),
        3 => typed::<U8x3>(from.extent, to.extent, options),
        4 => typed::<U8x4>(from.extent, to.extent, options),
        channels => panic!("{channels} channels are not compared"),
    }
}

fn typed<P: PixelTrait + InnerPixel>(
    from: Extent,
    to: Extent,
    options: ResizeOptions,
) -> ResizePlane {
    let mut resizer = Resizer::new();
    Box::new(move |source, target| {
        let source = TypedImageRef::<P>::from_buffer(from.width, from.height, source);
        let target = TypedImage::<P>::from_buffer(to.width, to.height, target);
        let (source, mut target) = (source.expect("a plane"), target.expect("a plane"));
        resizer.resize_typed(&source, &mut target, &options).expect("a plane");
    })
}
