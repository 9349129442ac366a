//! A live picture: a new frame each tick, ready or not, of which only the latest is worth showing.
//!
//!     webcam [FRAMES [FRAMES_A_SECOND]]
//!
//! A frame is shown; or late, since no device had begun it by the stream's deadline and the daemon dropped
//! it; or overtaken, since all slots were on their way when a younger one needed one of them.

use std::collections::VecDeque;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use resized_client::{Client, Error, Extent, Frame, FrameSpec, PixelFormat, StreamSpec};

/// In place of a camera: each frame is as bright as its number.
fn shoot(number: u32, plane: &mut [u8]) {
    plane.fill(number as u8);
}

fn show(number: u32, frame: &Frame) {
    println!("frame {number}: {} is its grey", frame.plane(0)[0]);
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (frames, rate): (u32, u32) = (number(50)?, number(25)?);
    let tick = Duration::from_secs(1) / rate.max(1);

    let client = Client::discover()?;
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(1280, 720));
    let mut spec = StreamSpec::new(source, Extent::new(320, 180));
    // By then there is a younger one.
    spec.deadline = Some(tick);
    let stream = client.open(&spec)?;

    let (mut shown, mut late, mut overtaken) = (0, 0, 0);
    let mut pendings = VecDeque::new();
    let mut due = Instant::now();
    for number in 0..frames {
        let mut slot = match stream.try_loan()? {
            Some(slot) => slot,
            None => {
                // To drop a pending cancels it, and its slot is free as soon as the daemon has said so.
                overtaken += u32::from(pendings.pop_front().is_some());
                stream.loan()?
            }
        };
        shoot(number, slot.plane_mut(0));
        pendings.push_back((number, slot.submit()?));

        // Until the next is due, or for the last frame as long as it takes.
        due += tick;
        while let Some((shot, pending)) = pendings.pop_front() {
            let left = match number + 1 < frames {
                true => due.saturating_duration_since(Instant::now()),
                false => Duration::MAX,
            };
            match pending.wait_timeout(left) {
                Ok(Ok(frame)) => {
                    show(shot, &frame);
                    shown += 1;
                }
                Ok(Err(pending)) => {
                    pendings.push_front((shot, pending));
                    break;
                }
                Err(Error::Late) => late += 1,
                Err(error) => return Err(error.into()),
            }
        }
        sleep(due.saturating_duration_since(Instant::now()));
    }
    println!("{frames} frames: {shown} shown, {late} late, {overtaken} overtaken");
    Ok(())
}
