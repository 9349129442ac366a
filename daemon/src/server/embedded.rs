//! Owns the daemon as a part of a program: on a thread of its own, for as long as somebody has it.
//!
//! Knows nothing of how it serves. Invariants: no thread is left when it is gone; all who share one
//! in a process have the same.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::{io, mem, process};

use tokio::sync::{mpsc, oneshot};

use super::{Daemon, Listener, Options, ServerError};
use crate::lock;

/// A daemon inside this process, for programs that want one where none runs.
///
/// Dropping it [stops](Self::stop) it. Not in a process that was forked from its own: it does not run
/// there.
#[derive(Debug)]
pub struct Server {
    /// None once it has ended.
    running: Option<Running>,
    /// The process that it runs in.
    process: u32,
}

#[derive(Debug)]
struct Running {
    sockets: mpsc::UnboundedSender<UnixStream>,
    /// Dropped to stop.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// A daemon on every core, reached by [`connect`](Self::connect) alone.
    pub fn embedded() -> Result<Self, ServerError> {
        Self::embedded_with(Options::default())
    }

    /// As [`embedded`](Self::embedded), with options.
    pub fn embedded_with(options: Options) -> Result<Self, ServerError> {
        Self::start(None, options)
    }

    /// The one of all who ask for it in this process, for as long as any of them has it. A process that was
    /// forked from this one has another: threads are not inherited.
    pub fn shared() -> Result<Arc<Self>, ServerError> {
        static ONE: Mutex<OfProcess> = Mutex::new(OfProcess { process: 0, server: Weak::new() });
        lock::wait(&ONE).of(process::id(), Self::embedded)
    }

    /// A daemon that other processes reach too, by a socket. Each connection counts as six of the descriptors that this
    /// process may have as it starts, and each stream as two, of the same; 32 are left to others. Of 1,024, a usual limit,
    /// that makes 165 connections and 496 streams.
    pub fn at(listener: Listener, options: Options) -> Result<Self, ServerError> {
        Self::start(Some(listener), options)
    }

    fn start(listener: Option<Listener>, options: Options) -> Result<Self, ServerError> {
        let daemon = Daemon::new(options)?;
        let (sockets, adopted) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let stop = async {
                let _ = stopped.await;
                Ok(())
            };
            let served = daemon.serve(listener, adopted, stop);
            served.inspect_err(|error| tracing::error!(%error, "the embedded daemon ended"))
        };
        let thread = thread::Builder::new()
            .name("resized".into())
            .spawn(serve)
            .map_err(ServerError::SetUp)?;
        let running = Some(Running { sockets, stop, thread });
        Ok(Self { running, process: process::id() })
    }

    /// Stops it as a signal stops the daemon: what was submitted completes first. Says how it ended.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ServerError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        if self.process != process::id() {
            // Forked: there is no thread here to be told, or to be waited for.
            mem::forget(running);
            return Ok(());
        }
        let Running { sockets: _open, stop, thread } = running;
        drop(stop);
        thread.join().unwrap_or(Err(ServerError::Panicked))
    }

    /// A new connection: what a client takes in place of an endpoint.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let taken = self.running.as_ref().and_then(|running| running.sockets.send(ours).ok());
        taken.map(|()| theirs).ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors are in the log already.
        if matches!(self.end(), Err(ServerError::Panicked)) {
            tracing::error!("the embedded daemon panicked");
        }
    }
}

/// The server that all share who ask for it in a process.
struct OfProcess {
    process: u32,
    server: Weak<Server>,
}

impl OfProcess {
    fn of(
        &mut self,
        process: u32,
        start: impl FnOnce() -> Result<Server, ServerError>,
    ) -> Result<Arc<Server>, ServerError> {
        if self.process == process
            && let Some(server) = self.server.upgrade()
        {
            return Ok(server);
        }
        let server = Arc::new(start()?);
        *self = Self { process, server: Arc::downgrade(&server) };
        Ok(server)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::server::Devices;

    #[test]
    fn one_is_shared_by_a_process_and_not_by_those_forked_from_it() {
        let start =
            || Server::embedded_with(Options { devices: Devices::Null, ..Options::default() });
        let mut shared = OfProcess { process: 0, server: Weak::new() };
        let (one, same) = (shared.of(1, start).unwrap(), shared.of(1, start).unwrap());
        assert!(Arc::ptr_eq(&one, &same));
        let other = shared.of(2, start).unwrap();
        assert!(!Arc::ptr_eq(&one, &other));
        assert!(Arc::ptr_eq(&other, &shared.of(2, start).unwrap()));
        // As if nobody had been there.
        drop(other);
        shared.of(2, start).unwrap().connect().unwrap();
    }

    #[test]
    fn it_goes_on_where_it_runs_though_a_process_that_was_forked_drops_it() {
        let options = Options { devices: Devices::Null, ..Options::default() };
        for forked in [false, true] {
            let mut server = Server::embedded_with(options.clone()).unwrap();
            let sockets = server.running.as_ref().unwrap().sockets.clone();
            // As if this were the other process.
            server.process += u32::from(forked);
            drop(server);
            assert_eq!(sockets.is_closed(), !forked);
        }
    }

    #[test]
    fn who_stops_it_is_told_how_it_ended() {
        let options = || Options { devices: Devices::Null, ..Options::default() };
        assert!(Server::embedded_with(options()).unwrap().stop().is_ok());
        // A file, at which nobody can listen.
        let file = OwnedFd::from(File::open("/proc/self/exe").unwrap());
        let nowhere = Listener::adopt(UnixListener::from(file));
        let ended = Server::at(nowhere, options()).unwrap().stop();
        assert!(matches!(ended, Err(ServerError::SetUp(_))), "{ended:?}");
    }
}
