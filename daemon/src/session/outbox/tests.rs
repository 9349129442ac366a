//! An outbox, and the client's end of its socket, which is read when a test says so.

use resized_protocol::codec::Inbox;
use resized_protocol::message::Status;

use super::batch::{HELD, MOST, SHORT_NS};
use super::*;
use crate::until::DEADLINE;

static OPEN: AtomicBool = AtomicBool::new(false);

/// Slots of the completions that have arrived at the other end.
fn arrived(client: &UnixStream) -> Vec<u32> {
    read(client, &mut Inbox::new())
}

/// The same, after a part of a message that has arrived before.
fn read(mut client: &UnixStream, inbox: &mut Inbox) -> Vec<u32> {
    let mut slots = Vec::new();
    while inbox.fill(|room| io::Read::read(&mut client, room)).is_ok() {
        while let Some(Message::Completed(completion)) = inbox.pop().unwrap() {
            slots.push(completion.slot);
        }
    }
    slots
}

fn outbox() -> (Outbox, UnixStream) {
    let (daemon, client) = UnixStream::pair().unwrap();
    daemon.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    (Outbox::new(Arc::new(daemon)), client)
}

fn done(slot: u32, worked_ns: u64) -> Completion {
    Completion { stream: 0, slot, status: Status::Done, device: 0, queued_ns: 0, worked_ns }
}

#[test]
fn completions_go_together_under_pressure_but_none_is_left() {
    let (outbox, client) = outbox();
    outbox.expect(5);
    let expected: [&[u32]; 5] = [&[], &[], &[0, 1, 2], &[3], &[4]];
    for (slot, expected) in (0..).zip(expected) {
        outbox.completed(done(slot, 1), Pressure::Sated, &OPEN);
        assert_eq!(arrived(&client), expected, "slot {slot}");
    }
}

#[test]
fn in_company_all_of_a_clients_go_together() {
    let (outbox, client) = outbox();
    outbox.expect(3);
    for (slot, expected) in (0..).zip([&[][..], &[], &[0, 1, 2]]) {
        outbox.completed(done(slot, 1), Pressure::InCompany, &OPEN);
        assert_eq!(arrived(&client), expected, "slot {slot}");
    }
}

#[test]
fn no_more_go_together_than_a_client_can_wait_for() {
    let (outbox, client) = outbox();
    outbox.expect(100);
    for slot in 0..MOST as u32 - 1 {
        outbox.completed(done(slot, 1), Pressure::Sated, &OPEN);
    }
    assert!(arrived(&client).is_empty());
    outbox.completed(done(MOST as u32 - 1, 1), Pressure::Sated, &OPEN);
    assert_eq!(arrived(&client).len(), MOST);
}

#[test]
fn without_pressure_or_after_long_work_none_is_held_back() {
    let (outbox, client) = outbox();
    outbox.expect(9);
    outbox.completed(done(0, 1), Pressure::None, &OPEN);
    assert_eq!(arrived(&client), [0]);
    outbox.completed(done(1, SHORT_NS), Pressure::Sated, &OPEN);
    assert_eq!(arrived(&client), [1]);
}

#[test]
fn what_is_held_back_goes_before_anything_else_and_with_the_last() {
    let (outbox, client) = outbox();
    outbox.expect(9);
    outbox.completed(done(0, 1), Pressure::Sated, &OPEN);
    outbox.post(&Message::Completed(done(7, 1)));
    assert_eq!(arrived(&client), [0, 7]);
    outbox.completed(done(1, 1), Pressure::Sated, &OPEN);
    assert!(arrived(&client).is_empty());
    outbox.forget(7, &AtomicBool::new(false));
    assert_eq!(arrived(&client), [1]);
}

#[test]
fn nothing_is_said_of_a_closed_stream_or_after_the_last_message() {
    let (outbox, client) = outbox();
    let closed = AtomicBool::new(false);
    outbox.expect(5);
    outbox.completed(done(0, 1), Pressure::None, &closed);
    outbox.forget(1, &closed);
    outbox.completed(done(1, 1), Pressure::None, &closed);
    assert_eq!(arrived(&client), [0]);
    outbox.post_last(&Message::Completed(done(2, 1)));
    outbox.completed(done(3, 1), Pressure::None, &OPEN);
    assert_eq!(arrived(&client), [2]);
    assert_eq!(outbox.lock().in_flight, 1);
}

#[test]
fn what_fails_after_a_cut_does_not_make_it_the_clients() {
    let (outbox, _client) = outbox();
    outbox.cut(&mut outbox.lock(), Some(Errno::ENOMEM));
    outbox.cut(&mut outbox.lock(), Some(Errno::EPIPE));
    assert!(outbox.is_cut());
}

#[test]
fn none_is_held_back_for_long_whatever_else_is_in_flight() {
    let (outbox, client) = outbox();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let looking = async { match outbox.send_held_in_time().await {} };
        let completing = async {
            outbox.expect(5);
            for slot in 0..2 {
                outbox.completed(done(slot, 1), Pressure::Sated, &OPEN);
                assert!(arrived(&client).is_empty());
                // The last frame takes for ever.
                while arrived(&client) != [slot] {
                    sleep(HELD / 2).await;
                }
            }
        };
        tokio::select! {
            () = looking => {}
            () = completing => {}
            () = sleep(DEADLINE) => panic!("one is still held back"),
        }
    });
}

#[test]
fn what_the_socket_takes_is_sent_before_anything_is_waited_for() {
    let (outbox, client) = outbox();
    let posted = (0..).find(|&slot| {
        outbox.post(&Message::Completed(done(slot, 1)));
        !outbox.lock().messages.is_empty()
    });
    let read = arrived(&client).len() as u32;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let flushed = tokio::time::timeout(Duration::ZERO, outbox.flush()).await;
        flushed.unwrap().unwrap();
    });
    assert_eq!(Some(read + arrived(&client).len() as u32 - 1), posted);
}

#[test]
fn what_waits_goes_in_few_pieces_and_in_order() {
    const SLOTS: u32 = 20_000;
    let (outbox, client) = outbox();
    (0..SLOTS).for_each(|slot| outbox.post(&Message::Completed(done(slot, 1))));
    let (waiting, pieces) = {
        let waiting = outbox.lock();
        (waiting.bytes, waiting.messages.len())
    };
    assert!(waiting > 2 * CONGESTED && pieces <= waiting / CONGESTED + 1, "{waiting}, {pieces}");
    let (mut inbox, mut slots) = (Inbox::new(), Vec::new());
    while slots.len() < SLOTS as usize {
        slots.extend(read(&client, &mut inbox));
        outbox.send_now().unwrap();
    }
    assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
    assert_eq!(outbox.lock().bytes, 0);
}
