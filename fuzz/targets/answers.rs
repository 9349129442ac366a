//! A client of a bridge that says anything at all: each of its calls ends, and where the bridge broke the
//! protocol, with the breach. What is taken for a bridge that is gone would be tried again, in vain.
#![no_main]

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::thread;

use libfuzzer_sys::fuzz_target;
use resized_client::{Breach, Client, Crop, Error, Goodbye, Stream, remote};
use resized_fuzz::{End, Liar, SLOTS, specs};

fuzz_target!(|input: &[u8]| {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let liar = scope.spawn(|| Liar::new(theirs, input).converse());
        let error = remote::client_of(ours).map_or_else(|error| error, |client| talk(&client));
        check(&error, liar.join().unwrap());
    });
});

/// Has everything once that a client may have. Waits for the answer to whatever it says before it says
/// more. Returns how the connection ended, as in the end it does.
fn talk(client: &Client) -> Error {
    for spec in specs() {
        if let Ok(stream) = client.open(&spec) {
            for _ in 0..2 {
                let _ = frames(&stream);
                let _ = client.stats();
            }
            drop(stream);
            let _ = client.stats();
        }
    }
    let _ = client.clients();
    let _ = client.streams_of(3);
    loop {
        match client.stats() {
            Ok(_) | Err(Error::Unexpected(Breach::OtherReply)) => {}
            Err(error) if !error.is_fatal() => {}
            Err(error) => return error,
        }
    }
}

/// One that is given up, and as many as there are slots, of which one has a crop of its own.
fn frames(stream: &Stream) -> Result<(), Error> {
    drop(stream.loan()?.submit()?);
    let mut slots = (0..SLOTS).map(|_| stream.loan()).collect::<Result<Vec<_>, _>>()?;
    slots[0].set_crop(Crop { left: 0.5, top: 1.0, width: 3.0, height: 2.25 })?;
    for slot in &mut slots {
        match slot.layout().is_coded() {
            true => slot.write_jpeg(b"no picture")?,
            false => slot.plane_mut(0).fill(7),
        }
    }
    for pending in stream.submit_all(slots)? {
        if let Ok(frame) = pending.wait() {
            match frame.layout().is_coded() {
                true => drop(frame.jpeg().to_vec()),
                false => assert_eq!(frame.to_packed().len(), frame.layout().packed_len()),
            }
        }
    }
    Ok(())
}

/// Whether a client has to meet with that.
fn check(error: &Error, end: End) {
    let is_it = match (&end, error) {
        (End::Broke(breach), Error::Unexpected(found)) => found == breach,
        (End::Garbled(garbled), Error::Codec(found)) => found == garbled,
        // In a welcome's place.
        (End::Goodbye(Goodbye::Refused(refusal)), Error::Refused(found)) => found == refusal,
        (End::Goodbye(goodbye), Error::Goodbye(found)) => found == goodbye,
        (End::HungUp | End::AtTls, error) => is_loss(error),
        (
            End::Strayed { .. },
            Error::Unexpected(_) | Error::Codec(_) | Error::Goodbye(_) | Error::Refused(_),
        ) => true,
        (End::Strayed { hung_up }, error) => *hung_up && is_loss(error),
        _ => false,
    };
    assert!(is_it, "{end:?} ended as: {error}");
}

/// Whether the bridge is gone, as far as the client knows.
fn is_loss(error: &Error) -> bool {
    match error {
        Error::Disconnected => true,
        Error::Socket(error) => error.kind() == ErrorKind::ConnectionReset,
        _ => false,
    }
}
