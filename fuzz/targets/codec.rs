//! Any bytes, in any pieces, are messages or an error: none panics, none takes more memory than the
//! codec allows, and what is a message has just these bytes when it is said again. One thing may come
//! in two ways: nanoseconds of a stream's deadline, beyond a second, are seconds; once read, they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resized_protocol::codec::{Inbox, encode};
use resized_protocol::message::{Message, Request};
use resized_protocol::remote::Call;

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else { return };
    for piece in [usize::from(piece) + 1, bytes.len().max(1)] {
        read(bytes, piece, |inbox| inbox.pop::<Request>(), encode, has_deadline);
        read(bytes, piece, |inbox| inbox.pop::<Message>(), encode, |_| false);
        let has = |call: &Call| matches!(call, Call::Request(request) if has_deadline(request));
        read(bytes, piece, |inbox| inbox.pop::<Call>(), encode, has);
    }
});

fn has_deadline(request: &Request) -> bool {
    matches!(request, Request::Open { spec, .. } if spec.deadline.is_some())
}

/// The number in front of a message: of its bytes.
const PREFIX: usize = size_of::<u32>();

/// Puts in what there is room for. Returns how much that was.
fn fill(inbox: &mut Inbox, bytes: &[u8]) -> usize {
    let fill = |room: &mut [u8]| {
        let len = room.len().min(bytes.len());
        room[..len].copy_from_slice(&bytes[..len]);
        Ok::<_, ()>(len)
    };
    inbox.fill(fill).unwrap().0
}

/// Reads all messages out of bytes that arrive piece by piece.
fn read<M, E>(
    bytes: &[u8],
    piece: usize,
    pop: impl Fn(&mut Inbox) -> Result<Option<M>, E>,
    encode: impl Fn(&M, &mut Vec<u8>) -> Result<(), E>,
    may_differ: impl Fn(&M) -> bool,
) {
    let mut inbox = Inbox::new();
    let mut read = 0;
    let mut again = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            piece = &piece[fill(&mut inbox, piece)..];
            loop {
                match pop(&mut inbox) {
                    Ok(Some(message)) => {
                        again.clear();
                        assert!(
                            encode(&message, &mut again).is_ok(),
                            "a message that can't be sent"
                        );
                        let came = &bytes[read..read + again.len()];
                        if again != came {
                            assert!(may_differ(&message), "a message that comes in two ways");
                            assert_eq!(again[..PREFIX], came[..PREFIX], "another length");
                            let (mut inbox, mut rest) = (Inbox::new(), again.as_slice());
                            while !rest.is_empty() {
                                rest = &rest[fill(&mut inbox, rest)..];
                            }
                            let (mut once_more, same) = (Vec::new(), pop(&mut inbox));
                            let Ok(Some(same)) = same else { panic!("no message any more") };
                            assert!(encode(&same, &mut once_more).is_ok());
                            assert_eq!(once_more, again);
                        }
                        read += again.len();
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}
