//! Owns the sending half of a shared connection: requests go out whole, one after the other.
//!
//! Knows what is sent, not what for. Invariants: whoever has [`Outgoing`] writes, and nobody else;
//! half a message is followed by its rest or by nothing; a thread that can't write because the daemon
//! does not read, reads meanwhile: the daemon may be waiting for that.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use nix::poll::PollFlags;
use nix::sys::socket::MsgFlags;
use resized_protocol::codec;
use resized_protocol::fdpass;
use resized_protocol::message::Request;

use super::state::Standing;
use super::waiting::GLANCE;
use super::{Connection, Source};
use crate::lock::lock;
use crate::{Error, link};

/// How often it is looked whether nobody else sends, for what may stay unsaid.
const TRIES: u32 = 20;

/// Held while a request is written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(super) socket: Arc<UnixStream>,
    pub(super) era: u64,
    pub(super) bytes: Vec<u8>,
    /// What goes before anything else in this era.
    pub(super) first: Vec<u8>,
    streams: u32,
}

impl Outgoing {
    pub(super) const fn new(socket: Arc<UnixStream>) -> Self {
        Self { socket, era: 0, bytes: Vec::new(), first: Vec::new(), streams: 0 }
    }

    pub(super) fn encode(&mut self, request: &Request) -> Result<(), Error> {
        self.bytes.clear();
        Ok(codec::encode(request, &mut self.bytes)?)
    }

    /// The number of a new stream.
    pub(crate) fn new_stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams - 1
    }
}

impl Connection {
    /// Sends a request made ready in that era that has no reply. If the era is over, so is the
    /// request: either it was about slots in flight, which have been submitted anew, or about
    /// nothing that is left. If the daemon turns out to be gone, nobody waits for the next: who
    /// reads finds that out, and slots in flight are submitted anew as the next era begins.
    pub(crate) fn tell(&self, era: u64, request: &Request) -> Result<(), Error> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.era == era {
            outgoing.encode(request)?;
            let _ = self.send(&mut outgoing);
        }
        Ok(())
    }

    /// As [`tell`](Self::tell), unless that has to wait: for another thread that sends, or for a
    /// daemon that does not read. Then it stays unsaid.
    pub(crate) fn suggest(&self, era: u64, request: &Request) {
        if self.is_forked() {
            return;
        }
        let free = (0..TRIES).find_map(|_| {
            // Others say their piece in microseconds.
            self.outgoing.try_lock().inspect_err(|_| std::thread::yield_now()).ok()
        });
        let Some(mut outgoing) = free else { return };
        let begun = outgoing.era == era && outgoing.encode(request).is_ok();
        let Outgoing { socket, bytes, .. } = &*outgoing;
        if begun && let Ok(sent) = fdpass::send(socket, bytes, None, MsgFlags::MSG_DONTWAIT) {
            // Half a message must not stay one. Linux takes such short ones whole or not at all.
            self.send_all(socket, &bytes[sent..]);
        }
    }

    /// Sends what is encoded. False: the daemon is gone, or its connection has just been given up;
    /// whoever reads finds that out.
    pub(super) fn send(&self, outgoing: &mut Outgoing) -> bool {
        let Outgoing { socket, first, bytes, .. } = outgoing;
        let sent = first.is_empty() || self.send_all(socket, first);
        first.clear();
        sent && self.send_all(socket, bytes)
    }

    fn send_all(&self, socket: &UnixStream, mut rest: &[u8]) -> bool {
        while !rest.is_empty() {
            match fdpass::send(socket, rest, None, MsgFlags::MSG_DONTWAIT) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.make_room(socket) {
                        return false;
                    }
                }
                // It hung up, or died with requests unread: its last words, still to be read, say why.
                Err(error) if is_hang_up(&error) => return false,
                // Half a message may be sent.
                Err(error) => return self.give_up(socket, error.into()),
            }
        }
        true
    }

    /// Ends the connection for what failed on our side, as it would with another daemon. False, for who
    /// would have sent.
    fn give_up(&self, socket: &UnixStream, error: Error) -> bool {
        let mut state = self.state();
        state.break_off(error);
        self.wake(state);
        // Also whoever reads.
        let _ = socket.shutdown(Shutdown::Both);
        false
    }

    /// Waits until the socket takes bytes, or reads what has arrived: a daemon whose answers are not
    /// read does not read either. False: there is no use in waiting.
    fn make_room(&self, socket: &UnixStream) -> bool {
        match link::wait_for(socket, PollFlags::POLLIN | PollFlags::POLLOUT, None) {
            Ok(PollFlags::POLLIN) => {}
            // Also when it has failed: sending will say so.
            Ok(_) => return true,
            Err(error) => return self.give_up(socket, error.into()),
        }
        let state = self.state();
        if !matches!(state.standing, Standing::Up) {
            return false;
        }
        // Who reads already may have read it before this one waits for that, and says nothing before the
        // next comes: there may be room much sooner.
        let soon = Instant::now() + GLANCE;
        drop(self.advance(state, Source::Message, Some(soon)));
        true
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::super::tests::connection;
    use super::*;

    /// Far longer than anything here takes.
    const DEADLINE: Duration = Duration::from_secs(60);

    const CANCEL: Request = Request::Cancel { stream: 0, slot: 0 };

    /// Writes until the socket takes no more. Returns how much that was.
    fn fill(mut socket: &UnixStream) -> usize {
        socket.set_nonblocking(true).unwrap();
        let written = std::iter::from_fn(|| socket.write(&[0; 512]).ok());
        written.sum()
    }

    #[test]
    fn who_waits_to_send_is_not_kept_by_who_reads() {
        let (connection, ours, mut theirs) = connection();
        let mut filling = vec![0; fill(&ours)];
        // Another thread reads, took what had come before anybody waited for that, and goes on reading.
        connection.state().reading = true;
        theirs.write_all(&[0]).unwrap();
        let (sent, said) = channel();
        let connection = Arc::new(connection);
        let sending = Arc::clone(&connection);
        thread::spawn(move || sent.send(sending.tell(0, &CANCEL)).unwrap());
        while connection.state().waiting == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        theirs.read_exact(&mut filling).unwrap();
        said.recv_timeout(DEADLINE).expect("it is not sent").unwrap();
    }

    #[test]
    fn what_may_stay_unsaid_is_not_waited_for() {
        let (connection, ours, mut theirs) = connection();
        connection.suggest(0, &CANCEL);
        let mut wanted = Vec::new();
        codec::encode(&CANCEL, &mut wanted).unwrap();
        let mut said = vec![0; wanted.len()];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(said, wanted);
        let filling = fill(&ours);
        connection.suggest(0, &CANCEL);
        {
            let _busy = lock(&connection.outgoing);
            connection.suggest(0, &CANCEL);
        }
        drop((connection, ours));
        assert_eq!(theirs.read_to_end(&mut said).unwrap(), filling);
    }
}
