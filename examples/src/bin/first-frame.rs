//! The smallest use of the client: one grey ramp, resized by the daemon and read back.

use anyhow::Result;
use resized_client::{Client, Extent, FrameSpec, PixelFormat, StreamSpec};

fn main() -> Result<()> {
    let client = Client::discover()?;
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(256, 64));
    let stream = client.open(&StreamSpec::new(source, Extent::new(16, 4)))?;

    // A slot of the ring: memory that the daemon sees too, so nothing is copied from here on.
    let mut slot = stream.loan()?;
    for row in slot.rows_mut(0) {
        for (grey, pixel) in (0..=255).zip(row) {
            *pixel = grey;
        }
    }

    let frame = slot.submit()?.wait()?;

    for row in frame.rows(0) {
        println!("{row:3?}");
    }
    let receipt = frame.receipt();
    let device = frame.device().unwrap_or("a device that is gone".to_owned());
    println!("resized by {device}: waited {:?}, took {:?}", receipt.queued, receipt.worked);
    Ok(())
}
