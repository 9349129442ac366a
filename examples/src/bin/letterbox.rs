//! What a detector takes: a letterboxed, normalised tensor; and the way back, of the boxes that it
//! found.

use anyhow::{Context, Result};
use resized_client::{Client, Extent, Frame, FrameSpec, Framing, PixelFormat, StreamSpec, Tensor};

const SIDE: u32 = 640;

/// Left, top, right, bottom.
type Corners = [f64; 4];

fn main() -> Result<()> {
    let client = Client::discover()?;
    let video = FrameSpec::new(PixelFormat::Bgr24, Extent::new(1280, 720));
    // Planes of f32, red first.
    let tensor = PixelFormat::Tensor(Tensor::default());
    let mut spec = StreamSpec::new(video, Extent::new(SIDE, SIDE)).with_format(tensor);
    // As large as it can be at its own shape, with grey around it.
    spec.framing = Framing::letterbox([114; 3]);
    // Numbers are (sample - mean) * scale, of samples from 0 to 255.
    spec.normalisation.mean = [127.5; 3];
    spec.normalisation.scale = [1.0 / 127.5; 3];
    let stream = client.open(&spec)?;

    let mut slot = stream.loan()?;
    for (y, row) in slot.rows_mut(0).enumerate() {
        for (x, bgr) in row.chunks_exact_mut(3).enumerate() {
            let is_red = (400..720).contains(&x) && (180..360).contains(&y);
            bgr.copy_from_slice(if is_red { &[0, 0, 255] } else { &[90, 90, 20] });
        }
    }
    let frame = slot.submit()?.wait()?;
    let seen = frame.placement().destination;
    println!("the picture is {} of the tensor, {} rows from its top", seen.extent, seen.top);

    let [left, top, right, bottom] = detect(&frame).context("nothing was found")?;
    println!("found {left},{top} to {right},{bottom} in the tensor");
    let placement = frame.placement();
    let ((left, top), (right, bottom)) =
        (placement.to_source((left, top)), placement.to_source((right, bottom)));
    println!("found {left},{top} to {right},{bottom} in the video");
    Ok(())
}

/// In place of a network: a box around all that is red.
fn detect(frame: &Frame) -> Option<Corners> {
    // Three dense planes of numbers, page aligned: most runtimes take them as they lie.
    let mut planes = frame.f32s()?.chunks_exact((SIDE * SIDE) as usize);
    let (red, green) = (planes.next()?, planes.next()?);
    let numbers = red.iter().zip(green).enumerate();
    let numbers = numbers.filter(|(_, (red, green))| *red - *green > 0.5);
    let places = numbers.map(|(index, _)| (index as u32 % SIDE, index as u32 / SIDE));
    places.fold(None, |found: Option<Corners>, (x, y)| {
        let (x, y) = (f64::from(x), f64::from(y));
        let [left, top, right, bottom] = found.unwrap_or([x, y, x, y]);
        Some([left.min(x), top.min(y), right.max(x + 1.0), bottom.max(y + 1.0)])
    })
}
