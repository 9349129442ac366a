//! Owns the bytes of a message: a little-endian `u32` length, then that many bytes of bincode
//! (little-endian, fixed-width integers).
//!
//! Knows no sockets and no meaning. Invariants: no message is longer than [`MAX_MESSAGE`], on either
//! side; nothing is allocated on the word of a length that has not been checked against it; a message
//! that leaves bytes over is malformed.

use std::fmt;
use std::ops::Range;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};
use thiserror::Error;

/// Longest message, in bytes, without its length prefix.
pub const MAX_MESSAGE: usize = 16 * 1024;

const PREFIX: usize = size_of::<u32>();

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_MESSAGE>> =
    bincode::config::legacy().with_limit::<MAX_MESSAGE>();

/// Why bytes are no message, or a message has no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Encode, Decode)]
pub enum CodecError {
    /// The length prefix, or the message to encode, is beyond [`MAX_MESSAGE`].
    #[error("a message longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// The bytes do not decode.
    #[error("a malformed message")]
    Malformed,
    /// Bytes are left over behind the message.
    #[error("a message with trailing bytes")]
    Trailing,
}

/// Appends the message, length first, to `bytes`. On an error `bytes` is as it was.
pub fn encode<M: Encode>(message: &M, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; PREFIX]);
    let encoded = bincode::encode_into_std_write(message, bytes, CONFIG);
    let len = bytes.len() - start - PREFIX;
    if encoded.is_err() || len > MAX_MESSAGE {
        bytes.truncate(start);
        return Err(CodecError::TooLong);
    }
    bytes[start..start + PREFIX].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Decodes one message without its length prefix.
fn decode<M: Decode<()>>(bytes: &[u8]) -> Result<M, CodecError> {
    let (message, consumed) =
        bincode::decode_from_slice(bytes, CONFIG).map_err(|_| CodecError::Malformed)?;
    if consumed == bytes.len() { Ok(message) } else { Err(CodecError::Trailing) }
}

/// Bytes that have arrived on a connection and are not yet decoded. Never larger than one longest
/// message and what a single read brings beside it.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// Where the bytes that have arrived lie in `bytes`: those before are decoded, those behind are
    /// room.
    arrived: Range<usize>,
}

/// How many there are: thousands of bytes say nothing to whoever prints a client.
impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("arrived", &self.arrived.len()).finish_non_exhaustive()
    }
}

impl Inbox {
    /// Bytes that [`fill`](Self::fill) makes room for at the least.
    const READ: usize = 4096;

    /// An inbox without bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `read` with room for more bytes and keeps as many as it says were read. Also returns
    /// whether they filled all the room: if not, a stream socket had no more, or a descriptor
    /// beside what follows.
    pub fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(usize, bool), E> {
        self.bytes.copy_within(self.arrived.clone(), 0);
        self.arrived = 0..self.arrived.len();
        if self.bytes.len() < self.arrived.end + Self::READ {
            self.bytes.resize(self.arrived.end + Self::READ, 0);
        }
        let room = &mut self.bytes[self.arrived.end..];
        let read = read(room)?.min(room.len());
        let full = read == room.len();
        self.arrived.end += read;
        Ok((read, full))
    }

    /// Takes what has arrived behind the messages and is none: as much as there is, but no more
    /// than `most` bytes.
    pub fn take(&mut self, most: usize) -> &[u8] {
        let start = self.arrived.start;
        self.arrived.start += most.min(self.arrived.len());
        &self.bytes[start..self.arrived.start]
    }

    /// Bytes that have arrived and are not decoded.
    pub fn len(&self) -> usize {
        self.arrived.len()
    }

    /// Whether nothing has arrived that is not decoded: no part of a message either.
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    /// The next whole message, or `None` until more bytes arrive. After an error the rest of the
    /// connection has no meaning.
    pub fn pop<M: Decode<()>>(&mut self) -> Result<Option<M>, CodecError> {
        let arrived = &self.bytes[self.arrived.clone()];
        let Some((prefix, rest)) = arrived.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len > MAX_MESSAGE {
            return Err(CodecError::TooLong);
        }
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = decode(body)?;
        self.arrived.start += PREFIX + len;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Reply, Request};

    fn inbox(bytes: &[u8]) -> Inbox {
        let mut inbox = Inbox::new();
        for chunk in bytes.chunks(Inbox::READ) {
            inbox
                .fill(|space| {
                    space[..chunk.len()].copy_from_slice(chunk);
                    Ok::<_, ()>(chunk.len())
                })
                .unwrap();
        }
        inbox
    }

    #[test]
    fn messages_survive_any_cut() {
        let first = Request::Submit { stream: 7, slots: vec![1, 2, 3] };
        let mut bytes = Vec::new();
        encode(&first, &mut bytes).unwrap();
        encode(&Request::Stats, &mut bytes).unwrap();
        for cut in 0..bytes.len() {
            let mut inbox = inbox(&bytes[..cut]);
            let mut seen = Vec::new();
            while let Some(message) = inbox.pop::<Request>().unwrap() {
                seen.push(message);
            }
            inbox
                .fill(|space| {
                    space[..bytes.len() - cut].copy_from_slice(&bytes[cut..]);
                    Ok::<_, ()>(bytes.len() - cut)
                })
                .unwrap();
            while let Some(message) = inbox.pop::<Request>().unwrap() {
                seen.push(message);
            }
            assert_eq!(seen, [first.clone(), Request::Stats]);
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = Vec::new();
        encode(&Request::Stats, &mut bytes).unwrap();
        bytes.push(0);
        bytes[0] += 1;
        assert_eq!(inbox(&bytes).pop::<Request>(), Err(CodecError::Trailing));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_its_bytes_arrive() {
        let bytes = (MAX_MESSAGE as u32 + 1).to_le_bytes();
        assert_eq!(inbox(&bytes).pop::<Request>(), Err(CodecError::TooLong));
    }

    #[test]
    fn a_vector_that_lies_about_its_length_is_malformed() {
        // Submit, stream 0, then a slot count that no message could hold.
        let mut body = Vec::from(2_u32.to_le_bytes());
        body.extend(0_u32.to_le_bytes());
        body.extend(u64::MAX.to_le_bytes());
        let mut bytes = Vec::from((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        assert_eq!(inbox(&bytes).pop::<Request>(), Err(CodecError::Malformed));
    }

    #[test]
    fn what_does_not_fit_is_not_encoded() {
        let reply = Reply::Welcome {
            version: 1,
            features: Default::default(),
            devices: vec!["x".repeat(MAX_MESSAGE)],
        };
        let mut bytes = vec![1, 2, 3];
        assert_eq!(encode(&reply, &mut bytes), Err(CodecError::TooLong));
        assert_eq!(bytes, [1, 2, 3]);
    }
}
