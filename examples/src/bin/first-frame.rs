//! The smallest use of the client: one grey ramp, resized by the daemon and read back.

use anyhow::Result;
use resized_client::{Client, Endpoint, Extent, FrameSpec, PixelFormat, StreamSpec};

fn main() -> Result<()> {
    let client = Client::connect(&Endpoint::discover()?)?;
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(256, 64));
    let stream = client.open(&StreamSpec::new(source, Extent::new(16, 4)))?;

    // A slot of the ring: memory that the daemon sees too, so nothing is copied from here on.
    let mut slot = stream.loan()?;
    let plane = slot.layout().planes()[0];
    for row in slot.plane_mut(0).chunks_exact_mut(plane.stride) {
        for (grey, pixel) in (0..=255).zip(row) {
            *pixel = grey;
        }
    }

    let frame = slot.submit()?.wait()?;

    let plane = frame.layout().planes()[0];
    for row in frame.plane(0).chunks_exact(plane.stride) {
        println!("{:3?}", &row[..plane.row_bytes()]);
    }
    let receipt = frame.receipt();
    let devices = client.devices();
    let device = &devices[usize::from(receipt.device)];
    println!("resized by {device}: waited {:?}, took {:?}", receipt.queued, receipt.worked);
    Ok(())
}
