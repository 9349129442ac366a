//! Owns the peers that know single pictures: a frame is resized plane by plane, each by a closure that
//! its library's file has made ready.

use resized_protocol::frame::Plane;
use resized_protocol::message::StreamSpec;

use crate::frame::Frame;
use crate::turn::{Contender, timed};

/// Resizes the rows of one plane into those of another.
pub(crate) type ResizePlane = Box<dyn FnMut(&[u8], &mut [u8])>;

pub(crate) struct PlaneByPlane {
    source: Frame,
    destination: Frame,
    resize: Vec<ResizePlane>,
}

impl PlaneByPlane {
    /// `open` is given a plane of the source and the one of the destination that it becomes.
    pub(crate) fn open(work: &StreamSpec, open: impl Fn(&Plane, &Plane) -> ResizePlane) -> Self {
        let source = Frame::source(work);
        let destination = Frame::empty(work.destination);
        let pairs = source.planes().iter().zip(destination.planes());
        let resize = pairs.map(|(from, to)| open(from, to)).collect();
        Self { source, destination, resize }
    }
}

impl Contender for PlaneByPlane {
    fn turn(&mut self) -> f64 {
        timed(|| {
            for (index, resize) in self.resize.iter_mut().enumerate() {
                resize(self.source.plane(index), self.destination.plane_mut(index));
            }
        })
    }

    fn made(&mut self) -> Option<Vec<f32>> {
        Some(self.destination.samples())
    }
}
