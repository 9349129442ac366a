//! A client that says anything at all.

use std::io::{ErrorKind, Read, Write};
use std::thread;

/// Says these bytes, all that it has to say, and listens until the other end hangs up, as that does
/// when it has read them all. Waits for no word longer than `from` does.
pub fn converse(
    mut from: impl Read,
    mut to: impl Write + Send,
    hang_up: impl FnOnce() + Send,
    bytes: &[u8],
) {
    thread::scope(|scope| {
        scope.spawn(move || {
            // It may hang up in the middle of them.
            let _ = to.write_all(bytes);
            hang_up();
        });
        let mut heard = [0; 4096];
        loop {
            match from.read(&mut heard) {
                Ok(1..) => {}
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                // The fuzzer's own alarm.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("it neither answers nor hangs up: {error}"),
            }
        }
    });
}
