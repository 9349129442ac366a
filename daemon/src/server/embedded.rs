//! Owns the daemon as a part of a program: on a thread of its own, for as long as somebody has it.
//!
//! Knows nothing of how it serves. Invariant: no thread is left when it is gone.

use std::io;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::{Daemon, Options, ServerError};

/// A daemon inside this process, for programs that want one where none runs.
///
/// Dropping it stops it as a signal stops the daemon: what was submitted completes first.
#[derive(Debug)]
pub struct Server {
    sockets: mpsc::UnboundedSender<UnixStream>,
    /// Dropped to stop.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A daemon on every core, reached by [`connect`](Self::connect) alone.
    pub fn embedded() -> Result<Self, ServerError> {
        Self::embedded_with(Options::default())
    }

    /// As [`embedded`](Self::embedded), with options.
    pub fn embedded_with(options: Options) -> Result<Self, ServerError> {
        let daemon = Daemon::new(options)?;
        let (sockets, adopted) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let stop = async {
                let _ = stopped.await;
                Ok(())
            };
            if let Err(error) = daemon.serve(None, adopted, stop) {
                tracing::error!(%error, "the embedded daemon ended");
            }
        };
        let thread = thread::Builder::new()
            .name("resized".into())
            .spawn(serve)
            .map_err(ServerError::SetUp)?;
        Ok(Self { sockets, stop: Some(stop), thread: Some(thread) })
    }

    /// A new connection: what a client takes in place of an endpoint.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let gone = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        self.sockets.send(ours).map_err(gone)?;
        Ok(theirs)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded daemon panicked");
        }
    }
}
