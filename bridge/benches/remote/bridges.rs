//! One to 256 bridges behind a NATS server: what it takes to ask for a place, how clients spread,
//! and whether frames pass the server. It is what the arithmetic of a thousand nodes starts from
//! (docs/design/other-machines.md).
//!
//! Each bridge has a daemon of its own, as nodes have, but all share this machine's cores: frames
//! can't become more with them, and are to stay as many.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use resized_client::{Client, Stream, StreamSpec};
use resized_protocol::remote::STREAM_SUBJECT;
use tokio::runtime::Runtime;

use super::broker::Broker;
use super::nodes::{Node, joined};
use super::{FRAMES, IN_FLIGHT, TURNS, film, median, per_second, resize, small};

/// The last of them to see that what grows, grows in proportion.
const BRIDGES: [usize; 4] = [1, 2, 4, 256];
/// Who ask for a place, one after the other and all at once.
const CLIENTS: usize = 40;
/// Whose frames are counted.
const STREAMS: usize = 8;
/// Whose cost is measured.
const QUESTIONS: usize = 1_000;
/// Questions on their way at the same time: fewer than may wait at a bridge.
const AT_ONCE: usize = 50;

/// For what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// As long as those of NATS's own clients.
const INBOX: &str = "_INBOX.0000000000000000000000";

/// A server, and those who have joined it.
struct Service {
    nodes: Vec<Node>,
    broker: Broker,
}

/// What was found out about asking for a place.
struct Asked {
    bridges: usize,
    /// Milliseconds until a client has a stream.
    place: f64,
    /// Of the server's time, in microseconds: with the client's connection, and for the question
    /// and its answers alone.
    client: f64,
    question: f64,
    /// What the server takes in for a question, and gives out.
    messages: [f64; 2],
    payload: [f64; 2],
    /// Bytes of an answer, as it comes to who asked.
    answer: f64,
    /// Clients of the bridge that has fewest, and of that which has most: come one after the other,
    /// and at once.
    in_turn: [u32; 2],
    at_once: [u32; 2],
}

/// The row.
pub(crate) fn bridges(folder: &Path) -> String {
    let services = BRIDGES.map(|bridges| Service::start(folder, bridges));
    let asked: Vec<_> = services.iter().map(Service::ask).collect();
    asked.iter().for_each(Asked::print);
    let streams = services.each_ref().map(|service| {
        let streams = (0..STREAMS).map(|_| service.stream(&film(IN_FLIGHT)));
        streams.collect::<Vec<_>>()
    });
    let before = services.each_ref().map(|service| service.broker.passed().messages);
    // The first brings pages and caches.
    let turns = (0..=TURNS).map(|_| streams.each_ref().map(|streams| of_all(streams)));
    let turns: Vec<_> = turns.skip(1).collect();
    let passed: Vec<u64> = services
        .iter()
        .zip(before)
        .map(|(service, before)| {
            let after = service.broker.passed().messages;
            after[0] - before[0] + after[1] - before[1]
        })
        .collect();
    let frames = [0, 1, 2, 3].map(|index| median(turns.iter().map(|turn| turn[index])));
    let level = median(turns.iter().map(|turn| turn[3] / turn[0]));
    println!(
        "1080p -> 640x360 I420 raw, {STREAMS} connections to {BRIDGES:?} bridges on the same cores: {frames:.0?} frames/s, the last \
         to the first {:.1} % (goal 95 %); messages by the server meanwhile: {passed:?} (goal none)",
        level * 100.0
    );
    let asked: Vec<_> = asked.iter().map(Asked::json).collect();
    format!(
        r#"{{"figure":"bridges","asked":[{}],"fps":{frames:.1?},"level":{level:.4},"messages_meanwhile":{passed:?}}}"#,
        asked.join(",")
    )
}

fn of_all(streams: &[Stream]) -> f64 {
    per_second(FRAMES * streams.len(), || {
        thread::scope(|scope| {
            streams.iter().for_each(|stream| drop(scope.spawn(|| resize(stream, &[]))));
        });
    })
}

impl Service {
    fn start(folder: &Path, bridges: usize) -> Self {
        let folder = folder.join(format!("bridges-{bridges}"));
        std::fs::create_dir(&folder).unwrap();
        let broker = Broker::start();
        let nodes = (0..bridges).map(|number| Node::start(&folder, number, &broker)).collect();
        Runtime::new().unwrap().block_on(async {
            let nats = async_nats::connect(broker.url()).await.unwrap();
            joined(&nats, bridges).await;
        });
        Self { nodes, broker }
    }

    fn stream(&self, spec: &StreamSpec) -> Stream {
        Client::connect(&self.broker.endpoint()).unwrap().open(spec).unwrap()
    }

    /// Clients of the bridge that has fewest, and of that which has most.
    fn spread(&self) -> [u32; 2] {
        // Without the one that asks.
        let clients = self.nodes.iter().map(|node| node.sessions() - 1);
        clients
            .fold([u32::MAX, 0], |[least, most], clients| [least.min(clients), most.max(clients)])
    }

    fn ask(&self) -> Asked {
        let bridges = self.nodes.len();
        drop(self.stream(&small()));
        let left = || {
            let begun = Instant::now();
            while self.spread() != [0, 0] {
                assert!(begun.elapsed() < PATIENCE, "clients that left are still counted");
                thread::sleep(Duration::from_millis(5));
            }
        };
        left();
        let busy = self.broker.busy();
        let (streams, times): (Vec<_>, Vec<_>) = (0..CLIENTS)
            .map(|_| {
                let begun = Instant::now();
                (self.stream(&small()), begun.elapsed().as_secs_f64() * 1e3)
            })
            .unzip();
        let client = (self.broker.busy() - busy).as_secs_f64() * 1e6 / CLIENTS as f64;
        let in_turn = self.spread();
        drop(streams);
        left();
        let streams = thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|_| scope.spawn(|| self.stream(&small())));
            let clients: Vec<_> = clients.collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        let at_once = self.spread();
        drop(streams);
        let mut asker = Asker::connect(&self.broker);
        // The first brings pages and caches.
        asker.ask(AT_ONCE, bridges);
        let (before, busy) = (self.broker.passed(), self.broker.busy());
        let rounds = (0..QUESTIONS / AT_ONCE).map(|_| asker.ask(AT_ONCE, bridges));
        let bytes: usize = rounds.sum();
        let (after, busy) = (self.broker.passed(), self.broker.busy() - busy);
        let each = |after: [u64; 2], before: [u64; 2]| {
            [0, 1].map(|way| (after[way] - before[way]) as f64 / QUESTIONS as f64)
        };
        Asked {
            bridges,
            place: median(times.into_iter()),
            client,
            question: busy.as_secs_f64() * 1e6 / QUESTIONS as f64,
            messages: each(after.messages, before.messages),
            payload: each(after.payload, before.payload),
            answer: bytes as f64 / (QUESTIONS * bridges) as f64,
            in_turn,
            at_once,
        }
    }
}

impl Asked {
    fn print(&self) {
        let Self { bridges, place, client, question, messages, payload, answer, .. } = self;
        let ([few, many], [fewest, most]) = (self.in_turn, self.at_once);
        println!(
            "bridges: {bridges} behind one nats-server: a place and a stream there p50 {place:.1} ms; a question and its answers: \
             {:.2} messages in and {:.2} out, {:.0} and {:.0} bytes of payload, an answer {answer:.0} bytes on the wire, {question:.1} us \
             of the server's time, {client:.0} us with the client's connection; of {CLIENTS} clients one after the other \
             {few} to {many} at a bridge, of as many at once {fewest} to {most}",
            messages[0], messages[1], payload[0], payload[1]
        );
    }

    fn json(&self) -> String {
        let Self { bridges, place, client, question, messages, payload, answer, .. } = self;
        let (in_turn, at_once) = (self.in_turn, self.at_once);
        format!(
            r#"{{"bridges":{bridges},"place_ms":{place:.2},"messages":{messages:.2?},"payload":{payload:.1?},"answer_bytes":{answer:.1},"question_us":{question:.2},"client_us":{client:.1},"in_turn":{in_turn:?},"at_once":{at_once:?}}}"#
        )
    }
}

/// Asks for places as clients do, and takes none; in NATS's own words, so that their bytes can be
/// counted.
struct Asker(BufReader<TcpStream>);

impl Asker {
    fn connect(broker: &Broker) -> Self {
        let mut socket = TcpStream::connect(broker.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
        write!(socket, "{hello}SUB {INBOX} 1\r\n").unwrap();
        Self(BufReader::new(socket))
    }

    /// Bytes of all answers to so many questions at once, each of which has one from every bridge.
    fn ask(&mut self, questions: usize, bridges: usize) -> usize {
        let question = format!("PUB {STREAM_SUBJECT} {INBOX} 0\r\n\r\n");
        self.0.get_mut().write_all(question.repeat(questions).as_bytes()).unwrap();
        (0..questions * bridges).map(|_| self.answer()).sum()
    }

    /// Bytes of the next answer.
    fn answer(&mut self) -> usize {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("MSG" | "HMSG") => {
                    let payload: usize = words.next_back().unwrap().parse().unwrap();
                    let mut rest = vec![0; payload + "\r\n".len()];
                    self.0.read_exact(&mut rest).unwrap();
                    return line.len() + rest.len();
                }
                Some("PING") => self.0.get_mut().write_all(b"PONG\r\n").unwrap(),
                Some("INFO" | "PONG") => {}
                _ => panic!("nats-server says {line:?}"),
            }
        }
    }
}
