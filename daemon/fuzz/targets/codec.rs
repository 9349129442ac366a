//! Any bytes, in any pieces, are messages or an error: none panics, none takes more memory than the
//! codec allows, and what is a message has these bytes and no others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resized_protocol::codec::{Inbox, encode};
use resized_protocol::message::{Message, Request};
use resized_protocol::remote::Call;

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else { return };
    for piece in [usize::from(piece) + 1, bytes.len().max(1)] {
        read(bytes, piece, |inbox| inbox.pop::<Request>(), encode);
        read(bytes, piece, |inbox| inbox.pop::<Message>(), encode);
        read(bytes, piece, |inbox| inbox.pop::<Call>(), encode);
    }
});

/// Reads all messages out of bytes that arrive piece by piece.
fn read<M, E>(
    bytes: &[u8],
    piece: usize,
    pop: impl Fn(&mut Inbox) -> Result<Option<M>, E>,
    encode: impl Fn(&M, &mut Vec<u8>) -> Result<(), E>,
) {
    let mut inbox = Inbox::new();
    let mut read = 0;
    let mut again = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let fill = |room: &mut [u8]| {
                let len = room.len().min(piece.len());
                room[..len].copy_from_slice(&piece[..len]);
                Ok::<_, ()>(len)
            };
            let (filled, _) = inbox.fill(fill).unwrap();
            piece = &piece[filled..];
            loop {
                match pop(&mut inbox) {
                    Ok(Some(message)) => {
                        again.clear();
                        assert!(
                            encode(&message, &mut again).is_ok(),
                            "a message that can't be sent"
                        );
                        assert_eq!(again, bytes[read..read + again.len()]);
                        read += again.len();
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}
