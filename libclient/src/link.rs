//! Owns a connection as long as only one thread knows of it: dialling, the hello, opening streams
//! one after the other; and the reading of messages, which stays the same when others share it.
//!
//! Invariant: nothing here waits longer than [`PATIENCE`] for any one answer, nor beyond the link's end,
//! whatever the other end says or leaves unsaid.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;
use resized_protocol::VERSION;
use resized_protocol::arrivals::Arrivals;
use resized_protocol::codec;
use resized_protocol::fdpass::{self, Passed};
use resized_protocol::message::{
    Backing, Completion, Features, Goodbye, Message, Reply, Request, StreamSpec,
};
use resized_protocol::shm::{self, Lease, Region, RingLayout};

use crate::endpoint::{self, Endpoint, PATIENCE};
use crate::{Breach, Error};

/// A connection that is not shared yet.
pub(crate) struct Link {
    pub(crate) socket: UnixStream,
    pub(crate) arrivals: Arrivals,
    pub(crate) broke: Broke,
    /// When whatever is still to be answered comes too late; `None`: never.
    end: Option<Instant>,
}

/// Why a carrier closed the socket, if that is because the bridge broke the protocol. The closing alone
/// would look like a loss, and be tried again, though the next connection may well do no better.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broke(Arc<OnceLock<Error>>);

impl Broke {
    /// To be called before the socket is closed.
    #[cfg(feature = "remote")]
    pub(crate) fn note(&self, error: Error) {
        let _ = self.0.set(error);
    }

    /// Why that error came, or else itself.
    pub(crate) fn or(&self, error: Error) -> Error {
        self.0.get().cloned().unwrap_or(error)
    }
}

impl Link {
    /// Connects to the socket at `path`.
    pub(crate) fn dial(path: &Path, end: Option<Instant>) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::Connect {
            endpoint: Endpoint::Unix(path.to_owned()),
            error: Arc::new(errno.into()),
        };
        let socket = endpoint::dial(path, left(answer_by(end))).map_err(failed)?;
        Ok(Self::over(socket, end))
    }

    /// Takes a socket that is connected.
    pub(crate) fn over(socket: UnixStream, end: Option<Instant>) -> Self {
        Self { socket, arrivals: Arrivals::default(), broke: Broke::default(), end }
    }

    /// Says hello. Returns the names of the daemon's devices.
    pub(crate) fn greet(&mut self, named_segments: bool) -> Result<Vec<String>, Error> {
        let features = if named_segments { Features::NAMED_SEGMENTS } else { Features::default() };
        let name = std::env::current_exe()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default();
        match self.ask(&Request::Hello { version: VERSION, features, name })?.0 {
            Reply::Welcome { devices, .. } => Ok(devices),
            _ => Err(Error::Unexpected(Breach::OtherReply)),
        }
    }

    /// Opens a stream.
    pub(crate) fn open(&mut self, stream: u32, spec: &StreamSpec) -> Result<Vec<Lease>, Error> {
        let (reply, descriptor) = self.ask(&Request::Open { stream, spec: *spec, named: false })?;
        leases(reply, descriptor, stream, spec, false)
    }

    fn ask(&mut self, request: &Request) -> Result<(Reply, Option<Passed>), Error> {
        // The answer before this said that the daemon lives: so each has its time, whatever those took.
        let deadline = answer_by(self.end);
        let mut bytes = Vec::new();
        codec::encode(request, &mut bytes)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match fdpass::send(&self.socket, rest, None, MsgFlags::MSG_DONTWAIT) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for(PollFlags::POLLOUT, deadline)?;
                }
                // It hung up: its last words say why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            match next(&mut self.arrivals) {
                // Who is not taken is told so as a refusal or as a goodbye.
                Err(Error::Goodbye(Goodbye::Refused(refusal)))
                | Ok(Some(Arrived::Reply(Reply::Refused(refusal), _))) => {
                    return Err(refusal.into());
                }
                Err(error) => return Err(error),
                Ok(Some(Arrived::Reply(reply, descriptor))) => return Ok((reply, descriptor)),
                Ok(Some(Arrived::Completed(_))) => {
                    return Err(Error::Unexpected(Breach::NotSubmitted));
                }
                Ok(None) => {
                    self.wait_for(PollFlags::POLLIN, deadline)?;
                    receive(&mut self.arrivals, &self.socket)
                        .map_err(|error| self.broke.or(error))?;
                }
            }
        }
    }

    fn wait_for(&self, event: PollFlags, deadline: Instant) -> Result<(), Error> {
        let found = wait_for(&self.socket, event, Some(deadline))?;
        match found.is_empty() && left(deadline).is_zero() {
            true => Err(Error::Silent),
            false => Ok(()),
        }
    }
}

/// Waits for any of these events at a socket, until that moment at the most, if there is one. Where there
/// was none by then, or a signal came first, none is found.
pub(crate) fn wait_for(
    socket: &UnixStream,
    events: PollFlags,
    until: Option<Instant>,
) -> io::Result<PollFlags> {
    // Rounded up, or the last millisecond would be spent asking.
    let at_most = until.map(|until| left(until) + Duration::from_micros(999));
    let at_most = at_most.map_or(PollTimeout::NONE, |at_most| {
        PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX)
    });
    let mut polled = [PollFd::new(socket.as_fd(), events)];
    match poll(&mut polled, at_most) {
        // What has no name here is a failure: whoever reads or sends then is told.
        Ok(_) => Ok(polled[0].revents().unwrap_or(PollFlags::POLLERR)),
        Err(Errno::EINTR) => Ok(PollFlags::empty()),
        Err(errno) => Err(errno.into()),
    }
}

/// When a daemon that is asked now has to have answered, where all ends then.
pub(crate) fn answer_by(end: Option<Instant>) -> Instant {
    sooner(end, Instant::now() + PATIENCE)
}

/// Whichever is sooner, the end, if there is one, or that moment.
pub(crate) fn sooner(end: Option<Instant>, moment: Instant) -> Instant {
    end.map_or(moment, |end| end.min(moment))
}

pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The leases of a stream that was asked for, from the answer; in a named segment only if that was
/// asked for.
pub(crate) fn leases(
    reply: Reply,
    descriptor: Option<Passed>,
    number: u32,
    spec: &StreamSpec,
    named: bool,
) -> Result<Vec<Lease>, Error> {
    let Reply::Opened { stream, ring, backing } = reply else {
        return Err(Error::Unexpected(Breach::OtherReply));
    };
    if stream != number {
        return Err(Error::Unexpected(Breach::OtherStream));
    }
    if RingLayout::new(spec).as_ref() != Ok(&ring) {
        return Err(Error::Unexpected(Breach::RingLayout));
    }
    match (backing, descriptor) {
        (Backing::Descriptor, Some(passed)) => Ok(shm::mapped(passed, ring)?),
        (Backing::Descriptor, None) => Err(Error::Unexpected(Breach::NoDescriptor)),
        (Backing::Named(name), _) if named => {
            let region = Region::open_named(&name, ring.len())?;
            Ok(shm::leases(region, &Arc::new(ring))?)
        }
        // Which has no seals.
        (Backing::Named(_), _) => Err(Error::Unexpected(Breach::NamedSegment)),
    }
}

/// A message that is not the last.
#[derive(Debug)]
pub(crate) enum Arrived {
    Reply(Reply, Option<Passed>),
    Completed(Completion),
}

/// Reads what has arrived, if anything.
pub(crate) fn receive(arrivals: &mut Arrivals, socket: &UnixStream) -> Result<(), Error> {
    match arrivals.receive(socket) {
        Ok((0, _)) => Err(Error::Disconnected),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The next message that is whole. The last one of a connection is an error.
pub(crate) fn next(arrivals: &mut Arrivals) -> Result<Option<Arrived>, Error> {
    Ok(match arrivals.pop()? {
        None => None,
        Some((Message::Completed(completion), _)) => Some(Arrived::Completed(completion)),
        Some((Message::Reply(reply), descriptor)) => Some(Arrived::Reply(reply, descriptor)),
        Some((Message::Goodbye(goodbye), _)) => return Err(Error::Goodbye(goodbye)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use nix::sys::socket::{Backlog, listen};

    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(50))
    }

    fn welcome() -> Vec<u8> {
        let (features, devices) = (Features::default(), vec![]);
        let welcome = Reply::Welcome { version: VERSION, features, devices };
        let mut bytes = Vec::new();
        codec::encode(&Message::Reply(welcome), &mut bytes).unwrap();
        bytes
    }

    /// What greeting somebody comes to who says this, piece by piece, and then nothing.
    fn greet(said: &[&[u8]]) -> Error {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let theirs = &mut theirs;
            scope.spawn(move || said.iter().for_each(|piece| theirs.write_all(piece).unwrap()));
            Link::over(ours, soon()).greet(false).unwrap_err()
        })
    }

    #[test]
    fn who_does_not_say_welcome_is_not_waited_for_without_end() {
        let bytes = welcome();
        let half = &bytes[..bytes.len() / 2];
        for said in [&[][..], &[half], &[&half[..1], &half[1..]]] {
            let error = greet(said);
            assert!(matches!(error, Error::Silent), "{error}");
        }
    }

    #[test]
    fn who_does_not_read_is_not_waited_for_without_end() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while (&ours).write(&[0; 4096]).is_ok() {}
        let error = Link::over(ours, soon()).greet(false).unwrap_err();
        assert!(matches!(error, Error::Silent), "{error}");
    }

    #[test]
    fn who_listens_and_accepts_nobody_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deaf");
        let listener = UnixListener::bind(&path).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let mut queued = Vec::new();
        let error = loop {
            match Link::dial(&path, soon()) {
                Ok(link) => queued.push(link),
                Err(error) => break error,
            }
        };
        let full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        assert!(matches!(&error, Error::Connect { error, .. } if full(error)), "{error}");
        // Nor is one whom it has not accepted yet.
        let error = queued[0].greet(false).unwrap_err();
        assert!(matches!(error, Error::Silent), "{error}");
        drop(listener);
    }

    #[test]
    fn a_stream_that_is_not_answered_is_not_waited_for_without_end() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let source = crate::FrameSpec::new(crate::PixelFormat::Gray8, crate::Extent::new(1, 1));
        let spec = StreamSpec::new(source, crate::Extent::new(1, 1));
        let error = Link::over(ours, soon()).open(0, &spec).unwrap_err();
        assert!(matches!(error, Error::Silent), "{error}");
    }
}
