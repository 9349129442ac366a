//! Owns the finding of a bridge by a NATS service: asks all who have joined it, and takes one of
//! those with the most room, of those that were not tried yet.
//!
//! Bridges that have no place say so, which spares a client the waiting for those that do not answer.
//! Only that goes by NATS: frames go to the bridge directly. A client that loses its bridge asks
//! again, and bridges that are gone do not answer.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use async_nats::{ConnectOptions, Message, ServerAddr, StatusCode};
use futures_util::{Stream, StreamExt};
use resized_protocol::VERSION;
use resized_protocol::codec::{Inbox, MAX_MESSAGE};
use resized_protocol::remote::{Offer, STREAM_SUBJECT};
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use super::Credentials;
use crate::Endpoint;
use crate::endpoint::{Remote, is_loopback};
use crate::places::Places;

/// For the first offer.
const PATIENCE: Duration = Duration::from_secs(2);

/// For others after the first.
const MORE: Duration = Duration::from_millis(50);

/// For offers after the first bridge that is full, which has nothing to wait for before it says so: the others
/// are asked at the same time, and may be busy.
const LATE: Duration = Duration::from_secs(1);

/// Most answers that are looked at, but for those of bridges that are full.
const MOST: usize = 256;

/// In the answer of a bridge that offers no place, as NATS services have it, and its value then.
const ERROR_CODE: &str = "Nats-Service-Error-Code";
const FULL: &str = "503";

/// A bridge that has room, and what to knock with there.
pub(super) async fn find(
    server: &str,
    credentials: &Credentials,
    places: &Places,
) -> io::Result<(Remote, String)> {
    places.forget_others();
    let mut options = ConnectOptions::new().name("resized client").connection_timeout(PATIENCE);
    if let Some(path) = &credentials.nats {
        options = options.credentials_file(path).await?;
    }
    if let Some(prefix) = &credentials.nats_inbox {
        options = options.custom_inbox_prefix(prefix);
    }
    if let Some(path) = &credentials.authorities {
        // To say which file it is that can't be used.
        let read = credentials.authorities();
        read.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        options = options.add_root_certificates(path.clone());
    }
    let server: ServerAddr = format!("nats://{server}").parse()?;
    let is_near = is_loopback(server.host());
    let client = options.connect(server).await.map_err(io::Error::other)?;
    let inbox = client.new_inbox();
    let answers = client.subscribe(inbox.clone()).await.map_err(io::Error::other)?;
    let asked = client.publish_with_reply(STREAM_SUBJECT, inbox, "".into()).await;
    asked.map_err(io::Error::other)?;
    let (offers, nobody) = hear(answers, is_near).await;
    let _ = timeout(MORE, client.drain()).await;
    let nobody = || io::Error::new(io::ErrorKind::NotFound, nobody);
    // Its keys are random.
    let random = RandomState::new().hash_one(());
    let chosen =
        places.give(offers, |(remote, _)| &remote.address, |offers| choice(offers, random));
    chosen.map(|(remote, offer)| (remote, offer.token)).ok_or_else(nobody)
}

/// What is offered, and what is to be said if that is nothing.
async fn hear(
    mut answers: impl Stream<Item = Message> + Unpin,
    is_near: bool,
) -> (Vec<(Remote, Offer)>, Nobody) {
    let (mut offers, mut nobody) = (Vec::new(), Nobody::default());
    let mut until = Instant::now() + PATIENCE;
    let mut looked_at = 0;
    while looked_at < MOST {
        let Ok(Some(answer)) = timeout_at(until, answers.next()).await else { break };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        if is_full(&answer) {
            nobody.full += 1;
            until = until.min(Instant::now() + LATE);
            continue;
        }
        looked_at += 1;
        let Some(offer) = offer(&answer.payload) else { continue };
        if !can_be_taken(&offer.0, is_near) {
            nobody.others += 1;
            continue;
        }
        if offers.is_empty() {
            until = Instant::now() + MORE;
        }
        offers.push(offer);
    }
    (offers, nobody)
}

fn is_full(answer: &Message) -> bool {
    let headers = answer.headers.as_ref();
    headers.and_then(|headers| headers.get(ERROR_CODE)).is_some_and(|code| code.as_str() == FULL)
}

/// No place was offered.
#[derive(Debug, Default, Error)]
struct Nobody {
    /// Bridges that had none.
    full: usize,
    /// Places that were, and could not be taken.
    others: usize,
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no bridge of the service has room")?;
        match self.full {
            0 => {}
            1 => f.write_str(": one is full or without its daemon")?,
            full => write!(f, ": {full} are full or without their daemon")?,
        }
        match self.others {
            0 => Ok(()),
            others => write!(
                f,
                "; {others} may, but what they offer is no tls:// address of another machine"
            ),
        }
    }
}

/// Whether nobody on the way can listen, and it leads to where the bridge is: loopback, as a server on
/// another machine passes it on, is not this machine.
fn can_be_taken(remote: &Remote, is_near: bool) -> bool {
    remote.can_be_offered() && (is_near || !is_loopback(remote.host()))
}

/// Any of those with seven eighths of the most room, or more: all who come at once are told the
/// same, as after the loss of a bridge, and must not all go to one.
fn choice(mut offers: Vec<(Remote, Offer)>, random: u64) -> Option<(Remote, Offer)> {
    let most = offers.iter().map(|(_, offer)| u64::from(offer.free)).max()?;
    offers.retain(|(_, offer)| u64::from(offer.free) * 8 >= most * 7);
    let chosen = random % offers.len() as u64;
    Some(offers.swap_remove(chosen as usize))
}

/// What an answer offers, if it is an offer of a bridge that this client can talk to.
fn offer(bytes: &[u8]) -> Option<(Remote, Offer)> {
    // Anybody may answer, with as much as the server lets through.
    if bytes.len() > size_of::<u32>() + MAX_MESSAGE {
        return None;
    }
    let mut inbox = Inbox::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (read, _) = inbox
            .fill(|room| {
                let len = room.len().min(rest.len());
                room[..len].copy_from_slice(&rest[..len]);
                Ok::<_, std::convert::Infallible>(len)
            })
            .ok()?;
        rest = &rest[read..];
    }
    let offer: Offer = inbox.pop().ok()??;
    match offer.endpoint.parse() {
        Ok(Endpoint::Remote(remote)) if offer.version == VERSION => Some((remote, offer)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use futures_util::stream;

    use super::*;

    #[test]
    fn any_is_chosen_of_those_with_much_room() {
        let offer = |free| {
            let Ok(Endpoint::Remote(remote)) = "tcp://a:1".parse() else { unreachable!() };
            (remote, Offer { version: VERSION, endpoint: String::new(), token: "t".into(), free })
        };
        let chosen = |free: &[u32], random| {
            choice(free.iter().map(|&free| offer(free)).collect(), random).map(|(_, o)| o.free)
        };
        let mut seen: Vec<_> =
            (0..6).map(|random| chosen(&[80, 69, 72, 70, 1, 75], random)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [70, 72, 75, 80].map(Some));
        assert_eq!(chosen(&[1, u32::MAX], 7), Some(u32::MAX));
        assert_eq!(chosen(&[], 7), None);
    }

    fn answer(payload: Vec<u8>, headers: Option<HeaderMap>) -> Message {
        let (subject, length) = ("inbox".into(), payload.len());
        let (reply, status, description) = (None, None, None);
        Message { subject, reply, payload: payload.into(), headers, status, description, length }
    }

    #[tokio::test]
    async fn bridges_that_are_full_are_counted_and_others_looked_for() {
        let mut headers = HeaderMap::new();
        headers.insert(ERROR_CODE, FULL);
        let full = || answer(Vec::new(), Some(headers.clone()));
        // Nothing comes after these.
        let heard = async |answers: Vec<Message>| {
            let answers = stream::iter(answers).chain(stream::pending());
            let (offers, nobody) = hear(answers, true).await;
            (offers.len(), nobody.to_string())
        };
        let said = "no bridge of the service has room: one is full or without its daemon";
        assert_eq!(heard(vec![full()]).await, (0, said.to_owned()));
        let mut bytes = Vec::new();
        let (endpoint, token) = ("tcp://127.0.0.1:1".to_owned(), "t".to_owned());
        let offer = Offer { version: VERSION, endpoint, token, free: 1 };
        resized_protocol::codec::encode(&offer, &mut bytes).unwrap();
        let mut many: Vec<_> = (0..2 * MOST).map(|_| full()).collect();
        many.push(answer(bytes, None));
        let said = "no bridge of the service has room: 512 are full or without their daemon";
        assert_eq!(heard(many).await, (1, said.to_owned()));
    }

    #[test]
    fn only_offers_that_can_be_taken_are_offers() {
        let bytes = |version, endpoint: &str| {
            let (endpoint, token) = (endpoint.to_owned(), "t".to_owned());
            let mut bytes = Vec::new();
            resized_protocol::codec::encode(
                &Offer { version, endpoint, token, free: 1 },
                &mut bytes,
            )
            .unwrap();
            bytes
        };
        assert!(offer(&bytes(VERSION, "tls://a:1")).is_some());
        assert!(offer(&bytes(VERSION + 1, "tls://a:1")).is_none());
        for endpoint in ["", "unix:/x", "tcp://a"] {
            assert!(offer(&bytes(VERSION, endpoint)).is_none(), "{endpoint}");
        }
        // By a server on this machine, and by one on another.
        for (endpoint, taken) in [
            ("tls://a:1", [true, true]),
            ("tcp://127.0.0.1:1", [true, false]),
            ("tls://localhost:1", [true, false]),
            ("tls://[::1]:1", [true, false]),
            ("tcp://192.0.2.1:1", [false, false]),
            ("nats://a:1/stream", [false, false]),
        ] {
            let (remote, _) = offer(&bytes(VERSION, endpoint)).unwrap();
            let can = [true, false].map(|is_near| can_be_taken(&remote, is_near));
            assert_eq!(can, taken, "{endpoint}");
        }
        let mut endless = bytes(VERSION, "tls://a:1");
        endless.resize(MAX_MESSAGE + 5, 0);
        for bytes in [&b""[..], &[0xff; 40], &[0; 5000], &endless] {
            assert!(offer(bytes).is_none());
        }
    }
}
