//! Owns the change from a connection that was lost to the next: what there was is opened and
//! submitted again, in one step with the new era.
//!
//! Knows where the daemon may be found only as a home to ask.

use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use resized_protocol::codec;
use resized_protocol::message::Request;

use super::incoming::Incoming;
use super::state::Standing;
use super::{Connection, Outgoing, State};
use crate::Error;
use crate::lock::lock;
use crate::reconnect::{Found, Home};

impl Connection {
    /// How the daemon was lost and where to find it again, if nobody looks for it yet: the caller
    /// has to. From here on it is the thread that reads.
    pub(super) fn to_recover(&self, state: &mut State) -> Option<(&Home, Error)> {
        let Standing::Lost(lost) = &state.standing else { return None };
        if state.reading {
            return None;
        }
        let found = (self.home.as_ref()?, lost.clone());
        state.reading = true;
        Some(found)
    }

    /// Has another thread [recover](Self::recover), for a caller that can't wait as long. The
    /// thread gives up once nobody has the connection any more.
    pub(super) fn recover_aside(self: &Arc<Self>, lost: &Error) {
        let (connection, how) = (Arc::clone(self), lost.clone());
        let recover = move || {
            let wanted = || Arc::strong_count(&connection) > 1;
            connection.home.iter().for_each(|home| connection.recover(home, &how, wanted));
        };
        let thread = thread::Builder::new().name("resized recovery".into());
        if thread.spawn(recover).is_err() {
            // There is no thread to be had, and somebody has to.
            self.home.iter().for_each(|home| self.recover(home, lost, || true));
        }
    }

    /// Finds the daemon again and begins a new era, or gives up, as where that is wanted no longer.
    pub(super) fn recover(&self, home: &Home, lost: &Error, wanted: impl Fn() -> bool) {
        let mut incoming = lock(&self.incoming);
        // Who waits to write to the daemon that is gone gives up, and with that the lock.
        let _ = incoming.socket.shutdown(Shutdown::Both);
        self.wake(self.state());
        let streams =
            || self.state().streams.iter().map(|(n, slots)| (*n, *slots.spec())).collect();
        let found = home.again(lost, streams, wanted);
        let mut outgoing = lock(&self.outgoing);
        let mut state = self.state();
        state.reading = false;
        match found {
            Ok(found) => begin(found, &mut incoming, &mut outgoing, &mut state),
            Err(error) => state.break_off(error),
        }
        drop(incoming);
        self.wake(state);
        // If this fails the next to read finds out.
        outgoing.bytes.clear();
        let _ = self.send(&mut outgoing);
    }
}

/// Begins an era with what was in flight in the last.
fn begin(found: Found, incoming: &mut Incoming, outgoing: &mut Outgoing, state: &mut State) {
    let Found { link, devices, rings } = found;
    let socket = Arc::new(link.socket);
    *incoming = Incoming::new(Arc::clone(&socket), link.arrivals, link.broke);
    state.era += 1;
    // What broke from our side meanwhile stays broken.
    if state.is_lost() {
        state.standing = Standing::Up;
    }
    state.devices = devices.into();
    state.replies.clear();
    state.unwanted.clear();
    state.disowned.clear();
    (state.asked, state.answered) = (0, 0);
    (outgoing.socket, outgoing.era) = (socket, state.era);
    outgoing.first.clear();
    for (stream, leases) in rings {
        let request = match state.streams.get_mut(&stream) {
            Some(slots) => slots.renew(leases),
            None => {
                // Closed while it was being opened again.
                let ticket = state.next_ticket();
                state.unwanted.push(ticket);
                Some(Request::Close { stream })
            }
        };
        // Neither can be too long: a submit of all slots there may be is not.
        let _ = request.map(|request| codec::encode(&request, &mut outgoing.first));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use nix::sys::socket::MsgFlags;
    use resized_protocol::VERSION;
    use resized_protocol::codec::Inbox;
    use resized_protocol::fdpass;
    use resized_protocol::frame::{Extent, FrameSpec, PixelFormat};
    use resized_protocol::message::{
        Backing, Completion, Features, Goodbye, Message, Reply, Status, StreamSpec, Violation,
    };
    use resized_protocol::shm::{self, Lease, Region, RingLayout};

    use super::*;
    use crate::{Client, Endpoint, Reconnect};

    fn say(socket: &UnixStream, message: &Message, descriptor: Option<&OwnedFd>) {
        let mut bytes = Vec::new();
        codec::encode(message, &mut bytes).unwrap();
        let descriptor = descriptor.map(AsFd::as_fd);
        let sent = fdpass::send(socket, &bytes, descriptor, MsgFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// A daemon to one client, until it hangs up, or until the first submission, where the daemon
    /// does; with these last words, after which what is in its rings means nothing.
    fn serve(mut socket: &UnixStream, dies: bool, last_words: Option<Goodbye>) {
        let mut inbox = Inbox::new();
        let mut leases: Vec<Lease> = Vec::new();
        loop {
            let slots = match inbox.pop().unwrap() {
                None if inbox.fill(|room| socket.read(room)).unwrap().0 == 0 => return,
                None => continue,
                Some(Request::Hello { .. }) => {
                    let (features, devices) = (Features::default(), Vec::new());
                    let welcome = Reply::Welcome { version: VERSION, features, devices };
                    say(socket, &Message::Reply(welcome), None);
                    continue;
                }
                Some(Request::Open { stream, spec, .. }) => {
                    let ring = RingLayout::new(&spec).unwrap();
                    let (region, descriptor) = Region::create(ring.len()).unwrap();
                    leases = shm::leases(region, &Arc::new(ring.clone())).unwrap();
                    let opened = Reply::Opened { stream, ring, backing: Backing::Descriptor };
                    say(socket, &Message::Reply(opened), Some(&descriptor));
                    continue;
                }
                Some(Request::Submit { slots, .. }) => slots,
                Some(_) => return,
            };
            if dies {
                if let Some(goodbye) = last_words {
                    leases.iter_mut().for_each(|lease| lease.input_mut().fill(0));
                    say(socket, &Message::Goodbye(goodbye), None);
                }
                return;
            }
            for slot in slots {
                let lease = &mut leases[slot as usize];
                let input = lease.input()[0];
                lease.output_mut()[0] = input;
                let done = Completion {
                    stream: 0,
                    slot,
                    status: Status::Done,
                    device: 0,
                    queued_ns: 0,
                    worked_ns: 0,
                };
                say(socket, &Message::Completed(done), None);
            }
        }
    }

    fn spec() -> StreamSpec {
        let extent = Extent::new(1, 1);
        StreamSpec::new(FrameSpec::new(PixelFormat::Gray8, extent), extent)
    }

    /// What becomes of a frame whose first daemon ends so.
    fn frame(last_words: Option<Goodbye>) -> Result<u8, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                serve(&listener.accept().unwrap().0, true, last_words);
                serve(&listener.accept().unwrap().0, false, None);
            });
            let client = Client::connect(&Endpoint::Unix(path.clone())).unwrap();
            let stream = client.open(&spec()).unwrap();
            let mut slot = stream.loan().unwrap();
            slot.write_packed(&[7]).unwrap();
            let frame = slot.submit().unwrap().wait().map(|frame| frame.to_packed()[0]);
            // For the second daemon, if nobody came to it.
            drop(UnixStream::connect(&path));
            frame
        })
    }

    #[test]
    fn frames_of_a_daemon_that_died_go_to_the_next() {
        assert_eq!(frame(None).unwrap(), 7);
    }

    #[test]
    fn a_client_knows_that_its_daemon_is_lost_until_there_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (start, next) = channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                serve(&listener.accept().unwrap().0, true, None);
                // Who comes meanwhile is not answered yet.
                let _ = next.recv();
                serve(&listener.accept().unwrap().0, false, None);
            });
            let forever = Reconnect { within: Duration::MAX, ..Reconnect::default() };
            let client = Client::connect_with(&Endpoint::Unix(path), forever).unwrap();
            let stream = client.open(&spec()).unwrap();
            assert!(!client.is_lost());
            let mut pending = stream.loan().unwrap().submit().unwrap();
            while !client.is_lost() {
                let waited = pending.wait_timeout(Duration::from_millis(1)).unwrap();
                pending = waited.expect_err("nobody resizes");
            }
            start.send(()).unwrap();
            drop(pending.wait().unwrap());
            assert!(!client.is_lost());
        });
    }

    #[test]
    fn a_daemon_is_not_looked_for_when_nobody_is_left_who_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let forever = Reconnect { within: Duration::MAX, ..Reconnect::default() };
        let client = thread::scope(|scope| {
            scope.spawn(move || serve(&listener.accept().unwrap().0, true, None));
            let client = Client::connect_with(&Endpoint::Unix(path), forever).unwrap();
            let stream = client.open(&spec()).unwrap();
            let pending = stream.loan().unwrap().submit().unwrap();
            drop(pending.wait_timeout(Duration::from_millis(20)).unwrap().unwrap_err());
            client
        });
        let connection = client.connection();
        drop(client);
        let begun = Instant::now();
        while connection.strong_count() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is still looked for");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn frames_that_a_living_daemon_took_back_are_lost_and_never_wrong() {
        for goodbye in [Goodbye::Silence, Goodbye::Violation(Violation::NoHello)] {
            let error = frame(Some(goodbye.clone())).unwrap_err();
            assert!(matches!(&error, Error::Goodbye(found) if *found == goodbye), "{error}");
        }
    }
}
