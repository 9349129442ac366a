//! Owns the change from a connection that was lost to the next: what there was is opened and submitted again,
//! in one step with the new era.
//!
//! Knows where the daemon may be found only as a home to ask.

use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use resized_protocol::codec;
use resized_protocol::message::Request;

use super::{Connection, Incoming, Outgoing, State, lock};
use crate::Error;
use crate::reconnect::{Found, Home};

impl Connection {
    /// How the daemon was lost and where to find it again, if nobody looks for it yet: the caller has to. From
    /// here on it is the thread that reads.
    pub(super) fn to_recover(&self, state: &mut State) -> Option<(&Home, Error)> {
        let lost = state.lost.as_ref().filter(|_| !state.reading)?;
        let found = (self.home.as_ref()?, lost.clone());
        state.reading = true;
        Some(found)
    }

    /// Has another thread [recover](Self::recover), for a caller that can't wait as long.
    pub(super) fn recover_aside(self: &Arc<Self>, lost: &Error) {
        let (connection, how) = (Arc::clone(self), lost.clone());
        let recover =
            move || connection.home.iter().for_each(|home| connection.recover(home, &how));
        let thread = thread::Builder::new().name("resized recovery".into());
        if thread.spawn(recover).is_err() {
            // There is no thread to be had, and somebody has to.
            self.home.iter().for_each(|home| self.recover(home, lost));
        }
    }

    /// Finds the daemon again and begins a new era, or gives up.
    pub(super) fn recover(&self, home: &Home, lost: &Error) {
        let mut incoming = lock(&self.incoming);
        // Who waits to write to the daemon that is gone gives up, and with that the lock.
        let _ = incoming.socket.shutdown(Shutdown::Both);
        self.wake(self.state());
        let streams =
            || self.state().streams.iter().map(|(n, slots)| (*n, *slots.spec())).collect();
        let found = home.again(lost, streams);
        let mut outgoing = lock(&self.outgoing);
        let mut state = self.state();
        (state.lost, state.reading) = (None, false);
        match found {
            Ok(found) => begin(found, &mut incoming, &mut outgoing, &mut state),
            Err(error) => state.broken = Some(error),
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
    *incoming = Incoming::new(Arc::clone(&socket), link.arrivals);
    state.era += 1;
    state.devices = devices.into();
    state.replies.clear();
    state.unwanted.clear();
    state.answered = 0;
    (outgoing.socket, outgoing.era, outgoing.requests) = (socket, state.era, 0);
    outgoing.first.clear();
    for (stream, leases) in rings {
        let request = match state.streams.get_mut(&stream) {
            Some(slots) => slots.renew(leases),
            None => {
                // Closed while it was being opened again.
                state.unwanted.push(outgoing.number());
                Some(Request::Close { stream })
            }
        };
        // Neither can be too long: a submit of all slots there may be is not.
        let _ = request.map(|request| codec::encode(&request, &mut outgoing.first));
    }
}
