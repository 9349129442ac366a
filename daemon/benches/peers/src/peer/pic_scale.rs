//! Owns pic-scale: a plan and its scratch for each plane, made once.

use std::sync::Arc;

use pic_scale::{ImageSize, ImageStore, ImageStoreMut, Resampling, ResamplingFunction, Scaler};
use resized_protocol::frame::Plane;
use resized_protocol::message::{Filter, StreamSpec};

use super::planes::{PlaneByPlane, ResizePlane};

pub(crate) fn open(work: &StreamSpec) -> PlaneByPlane {
    let function = match work.filter {
        Filter::Bilinear => ResamplingFunction::Bilinear,
        Filter::Bicubic => ResamplingFunction::CatmullRom,
        Filter::Lanczos3 => ResamplingFunction::Lanczos3,
        filter => panic!("{filter:?} is not compared"),
    };
    // One thread unless told otherwise.
    let scaler = Scaler::new(function);
    PlaneByPlane::open(work, |from, to| plane(&scaler, from, to))
}

fn plane(scaler: &Scaler, from: &Plane, to: &Plane) -> ResizePlane {
    let size =
        |plane: &Plane| ImageSize::new(plane.extent.width as usize, plane.extent.height as usize);
    let (source, target) = (size(from), size(to));
    match from.channels {
        1 => planned(scaler.plan_planar_resampling(source, target).expect("a plan")),
        3 => planned(scaler.plan_rgb_resampling(source, target).expect("a plan")),
        4 => planned(scaler.plan_rgba_resampling(source, target, false).expect("a plan")),
        channels => panic!("{channels} channels are not compared"),
    }
}

fn planned<const N: usize>(plan: Arc<Resampling<u8, N>>) -> ResizePlane {
    let mut scratch = plan.alloc_scratch();
    let (from, to) = (plan.source_size(), plan.target_size());
    Box::new(move |source, target| {
        let source = ImageStore::borrow(source, from.width, from.height).expect("a plane");
        let mut target = ImageStoreMut::borrow(target, to.width, to.height).expect("a plane");
        plan.resample_with_scratch(&source, &mut target, &mut scratch).expect("a plane");
    })
}
