//! Owns the change from a connection that was lost to the next: what there was is opened and submitted again,
//! in one step with the new era.
//!
//! Knows where the daemon may be found only as a home to ask.

use std::net::Shutdown;
use std::sync::{Arc, MutexGuard};

use resized_protocol::codec;
use resized_protocol::message::Request;

use super::{Connection, Incoming, Outgoing, State, lock};
use crate::Error;
use crate::reconnect::{Found, Home};

impl Connection {
    /// Finds the daemon again and begins a new era, or gives up. Meanwhile this thread is the one that
    /// reads.
    pub(super) fn recover<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        home: &Home,
        lost: &Error,
    ) -> MutexGuard<'a, State> {
        state.reading = true;
        drop(state);
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
        drop(outgoing);
        self.state()
    }
}

/// Begins an era with what was in flight in the last.
fn begin(found: Found, incoming: &mut Incoming, outgoing: &mut Outgoing, state: &mut State) {
    let Found { link, devices, rings } = found;
    let socket = Arc::new(link.socket);
    *incoming =
        Incoming { socket: Arc::clone(&socket), arrivals: link.arrivals, messages: Vec::new() };
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
