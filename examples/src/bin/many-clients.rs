//! Many clients at once, each with a connection of its own, and frames of eight sizes: the daemon
//! gives them the machine in turns.
//!
//!     many-clients [CLIENTS [FRAMES]]
//!
//! Nobody here knows how many cores or GPUs there are, and no client starts a thread for them.

use std::collections::VecDeque;
use std::thread;

use anyhow::{Result, ensure};
use resized_client::{Client, Endpoint, Extent, FrameSpec, Pending, PixelFormat, StreamSpec};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (clients, frames): (u32, u32) = (number(8)?, number(100)?);

    let endpoint = Endpoint::discover()?;
    let clients: Vec<Client> =
        (0..clients).map(|_| Client::connect(&endpoint)).collect::<Result<_, _>>()?;
    thread::scope(|scope| {
        let start = |(number, client)| scope.spawn(move || work(number, client, frames));
        let threads: Vec<_> = (1..).zip(&clients).map(start).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a client panicked"))
    })?;

    // What the daemon has counted for each client of this user; other programs' are among them.
    let Some(one) = clients.first() else { return Ok(()) };
    for client in one.clients()? {
        println!("client {}, {}: {} frames", client.client, client.name, client.frames);
    }
    let stats = one.stats()?;
    for device in &stats.devices {
        println!("{}: {} frames since the daemon started", device.name, device.frames);
    }
    Ok(())
}

/// What one of them does.
fn work(number: u32, client: &Client, frames: u32) -> Result<()> {
    // Eight sizes, since a side has a bound and clients have none.
    let times = number % 8 + 1;
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(160 * times, 90 * times));
    let stream = client.open(&StreamSpec::new(source, Extent::new(160, 90)))?;
    let mut pendings = VecDeque::<(u8, Pending)>::new();
    for frame in 0..frames {
        // Waits while all slots are on their way, or in our hands: nobody gets more into the queue.
        if pendings.len() == stream.spec().slots as usize
            && let Some((grey, pending)) = pendings.pop_front()
        {
            check(grey, pending)?;
        }
        let mut slot = stream.loan()?;
        let grey = (number + frame) as u8;
        slot.input_mut().fill(grey);
        pendings.push_back((grey, slot.submit()?));
    }
    pendings.into_iter().try_for_each(|(grey, pending)| check(grey, pending))
}

/// That it is ours.
fn check(grey: u8, pending: Pending) -> Result<()> {
    let frame = pending.wait()?;
    ensure!(frame.to_packed().iter().all(|&found| found == grey), "another client's frame");
    Ok(())
}
