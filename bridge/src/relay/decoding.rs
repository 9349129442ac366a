//! Owns what becomes of a client's JPEGs between the network and the daemon: each waits for a turn,
//! is decoded into its slot, and is submitted.
//!
//! Knows no messages of the client's. Invariant: as it would be of the daemon's, one that nobody
//! wants any more, or that has waited too long, is not begun, nor submitted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use resized_protocol::message::{Completion, Status};
use resized_protocol::shm::Lease;
use tokio::sync::mpsc;

use super::{End, Shared, Submitted, ToDaemon, say};
use crate::coded::Coded;
use crate::jpeg::Codec;

/// A frame that came as a JPEG, and its slot. What it takes is counted as long as it is here.
pub(super) struct Frame {
    submitted: Submitted,
    coded: Arc<Coded>,
    lease: Lease,
    /// When all of it had come.
    since: Instant,
}

/// One that waits for its turn.
pub(super) struct Arrived {
    frame: Frame,
    jpeg: Vec<u8>,
}

/// One that has had its turn: its slot holds its planes, unless it has ended otherwise.
struct Decoded {
    frame: Frame,
    undone: Option<Status>,
}

/// One that the daemon will not see.
pub(super) struct Undone {
    frame: Frame,
    status: Status,
}

impl Frame {
    fn given_up(&self) -> Option<Status> {
        self.coded.given_up(self.submitted.slot, self.since.elapsed())
    }
}

impl Arrived {
    /// One that has just come.
    pub(super) fn new(
        submitted: Submitted,
        coded: Arc<Coded>,
        lease: Lease,
        jpeg: Vec<u8>,
    ) -> Self {
        coded.begin(submitted.slot);
        Self { frame: Frame { submitted, coded, lease, since: Instant::now() }, jpeg }
    }

    fn decode(self, codec: &mut Codec) -> Decoded {
        let Self { mut frame, jpeg } = self;
        let undone = frame.given_up().or_else(|| {
            let read = frame.coded.decode(codec, &jpeg, &mut frame.lease);
            let Submitted { stream, slot, .. } = frame.submitted;
            let why = read.err()?;
            tracing::debug!(stream, slot, %why, "a JPEG is not read");
            Some(Status::Unreadable)
        });
        Decoded { frame, undone }
    }
}

impl Undone {
    /// What is said of it, and its slot, which is the client's then.
    pub(super) fn completion(self) -> (Completion, Lease) {
        let Submitted { stream, slot, .. } = self.frame.submitted;
        let (device, queued_ns, worked_ns) = (0, 0, 0);
        let status = self.status;
        let completion = Completion { stream, slot, status, device, queued_ns, worked_ns };
        (completion, self.frame.lease)
    }
}

/// Has JPEGs decoded, and submits them as they are. There are no more than the streams have slots.
pub(super) async fn decode_all(
    shared: &Shared,
    mut arrived: mpsc::UnboundedReceiver<Arrived>,
    daemon: &ToDaemon<'_>,
    all_undone: mpsc::UnboundedSender<Undone>,
) -> Result<Infallible, End> {
    // Those that wait for their turn are given up with it.
    let mut decoding = FuturesUnordered::new();
    loop {
        let decoded: Option<Decoded> = tokio::select! {
            Some(arrived) = arrived.recv() => {
                let coded = Arc::clone(&arrived.frame.coded);
                let bytes = coded.decoder_bytes(&arrived.jpeg);
                let turn = shared.lanes.run(bytes, move |codec| arrived.decode(codec));
                decoding.push(async move { coded.wanted(turn).await });
                continue;
            }
            Some(decoded) = decoding.next() => decoded?,
            else => std::future::pending().await,
        };
        let Some(Decoded { frame, undone }) = decoded else {
            shared.room.notify_one();
            continue;
        };
        // Now, as the closing of a stream and the end of a frame are noted before they are said.
        let mut daemon = daemon.lock().await;
        if !shared.rings().is_open(frame.submitted.stream) {
            drop(frame);
            shared.room.notify_one();
        } else if let Some(status) = undone.or_else(|| frame.given_up()) {
            let _ = all_undone.send(Undone { frame, status });
        } else {
            let Frame { mut submitted, coded, lease, .. } = frame;
            submitted.crop = submitted.crop.map(|crop| coded.crop(crop));
            shared.rings().submit(submitted.stream, lease);
            say(&mut daemon, submitted.request()).await?;
        }
    }
}
