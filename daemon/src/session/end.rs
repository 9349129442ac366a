//! Owns the end of a session: why it ends, what its client is told, and that all it holds is let go of.
//!
//! Invariants: a client that did nothing wrong gets all its results; what a client goes on sending, or
//! does not read, delays the end by seconds at the most.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use resized_protocol::message::{Goodbye, Message, Violation};
use thiserror::Error;
use tokio::time::timeout;

use super::{PATIENCE, Passing, Session, read, take_turns};
use crate::job::{Job, Stream};

/// Bytes of requests that a stopping session still reads: more than a socket holds that nobody has
/// given a larger buffer.
const LAST_READS: usize = 512 * 1024;

/// A stream that is over, and what waited of it.
type Withdrawn = (Arc<Stream>, VecDeque<Job>);

/// Why a session ends.
#[derive(Debug, Error)]
pub(super) enum End {
    #[error("the client hung up")]
    HungUp,
    #[error("the client was refused")]
    Refused,
    /// The client may take so long to read its last messages.
    #[error("the daemon stops")]
    Stopping { patience: Duration },
    #[error("nothing came in time")]
    Silence,
    #[error("violation: {0}")]
    Violation(#[from] Violation),
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
}

impl End {
    pub(super) const STOPPING: Self = Self::Stopping { patience: PATIENCE };
}

impl Session {
    /// Says goodbye, as far as the client is to hear it, and lets go of everything.
    pub(super) async fn end(&mut self, end: End) {
        match &end {
            End::Violation(violation) => {
                tracing::warn!(client = self.client, uid = self.uid(), %violation, "hung up");
                self.outbox.post_last(&Message::Goodbye(Goodbye::Violation(*violation)));
            }
            End::Stopping { patience } => self.say_goodbye(*patience).await,
            End::Silence => self.outbox.post_last(&Message::Goodbye(Goodbye::Silence)),
            End::HungUp | End::Refused | End::Socket(_) => {}
        }
        tracing::debug!(client = self.client, %end, "session over");
        // The client is not kept waiting for what follows.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
        let streams = self.withdraw().await;
        if !streams.is_empty()
            && let Err(error) = self.aside(|| drop(streams)).await
        {
            tracing::error!(%error, "a device panicked over the end of a stream");
        }
        if self.passing != Passing::Over {
            // What it did not read is still on its way, so it still has its place.
            self.await_that(|session| session.outbox.is_read(), Duration::MAX).await;
        }
    }

    /// Takes what was submitted until now; what a client goes on sending, or does not read, does not
    /// hold the end up.
    pub(super) async fn drain(&mut self) -> End {
        self.stopping = true;
        match timeout(PATIENCE, self.last_requests()).await {
            Ok(Err(end)) => end,
            Ok(Ok(never)) => match never {},
            Err(_) => {
                // If it does not read. Or it was we who took long.
                let is_deaf = self.outbox.is_congested();
                End::Stopping { patience: if is_deaf { Duration::ZERO } else { PATIENCE } }
            }
        }
    }

    async fn last_requests(&mut self) -> Result<Infallible, End> {
        let (mut left, mut begun) = (LAST_READS, None);
        loop {
            if self.outbox.is_congested() {
                self.outbox.send_waiting().await?;
                continue;
            }
            if let Some(request) = self.inbox.pop().map_err(Violation::Codec)? {
                self.answer(request).await?;
                take_turns(&mut begun).await;
                continue;
            }
            if left == 0 {
                return Err(End::STOPPING);
            }
            match read(&mut self.inbox, self.socket.get_ref()) {
                Ok((0, _)) => return Err(End::HungUp),
                Ok((len, _)) => left = left.saturating_sub(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(End::STOPPING);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The end of a client that did nothing wrong: it gets all its results, and time to read them.
    async fn say_goodbye(&mut self, patience: Duration) {
        self.meanwhile(self.outbox.idle()).await;
        self.outbox.post_last(&Message::Goodbye(Goodbye::Stopping));
        if timeout(patience, self.outbox.flush()).await.is_err() {
            tracing::warn!(client = self.client, "the client did not read its last messages");
        }
    }

    /// Forgets all streams, and gives them and what waited of them away.
    pub(super) async fn withdraw(&mut self) -> Vec<Withdrawn> {
        let (mut withdrawn, mut begun) = (Vec::new(), None);
        while let Some(stream) = self.withdraw_first() {
            withdrawn.push(stream);
            take_turns(&mut begun).await;
        }
        withdrawn
    }

    fn withdraw_first(&mut self) -> Option<Withdrawn> {
        let (_, stream) = self.streams.pop_first()?;
        let jobs = self.shared.scheduler.withdraw(stream.id());
        Some((stream, jobs))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.metrics.disconnect(self.client);
        // There are none left unless the session panicked, or the runtime did not run it to its
        // end.
        let streams: Vec<_> = std::iter::from_fn(|| self.withdraw_first()).collect();
        match tokio::runtime::Handle::try_current() {
            // To spawn panics where there is no thread to be had, and a second panic would end all.
            Ok(runtime) if !streams.is_empty() && !std::thread::panicking() => {
                drop(runtime.spawn_blocking(|| drop(streams)));
            }
            _ => drop(streams),
        }
    }
}
