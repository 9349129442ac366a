//! What bridges answer clients, as real ones do, and with a breach.

use resized_client::{ClientStats, Goodbye, Histogram, Refusal, Stats, Violation};
use resized_fuzz::specs;
use resized_protocol::VERSION;
use resized_protocol::codec::encode;
use resized_protocol::message::{Backing, Completion, Features, Message, Reply, Status};
use resized_protocol::shm::RingLayout;

/// Passes each on: for which target, under which name, and its bytes.
pub(crate) fn write_all(write: impl Fn(&str, &str, &[u8])) {
    for (name, answers) in answers() {
        write("answers", name, &pieces(&answers));
    }
}

/// As the target takes them: each behind the number of its bytes.
fn pieces(answers: &[Vec<u8>]) -> Vec<u8> {
    let piece = |answer: &Vec<u8>| [&(answer.len() as u16).to_le_bytes(), &answer[..]].concat();
    answers.iter().flat_map(piece).collect()
}

fn said(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    bytes
}

fn reply(reply: Reply) -> Vec<u8> {
    said(&Message::Reply(reply))
}

fn ended(stream: u32, slot: u32, status: Status) -> Vec<u8> {
    let (device, queued_ns, worked_ns) = (0, 1000, 2000);
    said(&Message::Completed(Completion { stream, slot, status, device, queued_ns, worked_ns }))
}

fn welcome() -> Vec<u8> {
    let devices = vec!["a core".into(), "a GPU".into()];
    reply(Reply::Welcome { version: VERSION, features: Features::default(), devices })
}

/// All answers to all that the client of the target asks for.
fn whole() -> Vec<Vec<u8>> {
    let mut all = vec![welcome()];
    for (stream, spec) in (0..).zip(specs()) {
        let ring = RingLayout::new(&spec).unwrap();
        let len = ring.output().rows_len();
        let result = match ring.output().is_coded() {
            true => b"\x06\0\0\0a JPEG".to_vec(),
            false => (0..len).map(|n| n as u8).collect(),
        };
        let done = |slot| [ended(stream, slot, Status::Done), result.clone()].concat();
        all.push(reply(Reply::Opened { stream, ring, backing: Backing::Descriptor }));
        let stats = reply(Reply::Stats(Stats::default()));
        all.extend([ended(stream, 0, Status::Cancelled), [done(1), done(0)].concat()]);
        all.extend([stats.clone(), done(0), done(1), ended(stream, 0, Status::Late)]);
        all.extend([stats.clone(), reply(Reply::Closed { stream }), stats]);
    }
    let client = ClientStats {
        client: 3,
        uid: 1000,
        name: "a client".into(),
        streams: 1,
        frames: 2,
        pixels: 3,
        copied_bytes: 4,
        queued: Histogram::default(),
        worked: Histogram::default(),
    };
    all.extend([reply(Reply::Clients(vec![client])), reply(Reply::Clients(Vec::new()))]);
    all.push(reply(Reply::Streams(Vec::new())));
    all
}

/// What bridges answer a client, one answer for each time that it waits. None of them is empty: what an
/// honest bridge would say.
fn answers() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let honest = |count| vec![Vec::new(); count];
    let later = |count, last: Vec<u8>| [honest(count), vec![last]].concat();
    let goodbye = |goodbye| said(&Message::Goodbye(goodbye));
    let halves = |answer: &Vec<u8>| {
        let (first, second) = answer.split_at(answer.len() / 2);
        [first.to_vec(), second.to_vec()]
    };
    let refused = || reply(Reply::Refused(Refusal::System { errno: 12 }));
    let violation = Goodbye::Violation(Violation::UnknownSlot { stream: 0, slot: 2 });
    let long = [ended(1, 0, Status::Done), u32::MAX.to_le_bytes().to_vec()].concat();
    vec![
        ("halves", whole().iter().flat_map(halves).collect()),
        ("whole", whole()),
        ("honest", honest(30)),
        ("refused", [later(1, refused()), honest(12)].concat()),
        ("unwelcome", vec![refused()]),
        ("stopping", later(3, goodbye(Goodbye::Stopping))),
        ("violation", later(2, goodbye(violation))),
        ("taken-back", later(6, goodbye(Goodbye::Refused(Refusal::Token)))),
        ("no-slot", later(2, ended(0, 7, Status::Unreadable))),
        ("too-long", later(12, long)),
        ("closed", later(4, reply(Reply::Closed { stream: 0 }))),
        ("unasked", later(4, welcome().repeat(2))),
        ("garbled", later(2, vec![2, 0, 0, 0, 0xff, 0xff])),
        // What TLS says to who does not speak it.
        ("alert", later(2, vec![21, 3, 3, 0, 2, 2, 40])),
    ]
}
