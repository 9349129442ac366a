//! A bridge that says what the input has for it, and knows what an honest one would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal};
use resized_client::{Breach, CodecError, Goodbye, Stats, StreamSpec};
use resized_protocol::VERSION;
use resized_protocol::codec::{Inbox, encode};
use resized_protocol::coding::PREFIX;
use resized_protocol::message::{Backing, Completion, Features, Message, Reply, Request, Status};
use resized_protocol::remote::Call;
use resized_protocol::shm::RingLayout;

/// How the connection has to end for the client.
#[derive(Debug)]
pub enum End {
    /// With that breach.
    Broke(Breach),
    /// What was said is no message.
    Garbled(CodecError),
    /// The bridge said so.
    Goodbye(Goodbye),
    /// It speaks TLS, as it seems: whoever dialled is told so.
    AtTls,
    /// The bridge had nothing more to say.
    HungUp,
    /// It answered what was not asked: which answer the client took for which depends on when it read them.
    Strayed {
        /// In the end the bridge had nothing more to say.
        hung_up: bool,
    },
    /// Not at all.
    Honest,
}

/// The input is what it says while the client waits for something, piece by piece, each behind the number of
/// its bytes (`u16`). None at all are what an honest bridge says.
pub struct Liar<'a> {
    socket: UnixStream,
    heard: Inbox,
    pieces: &'a [u8],
    said: Said,
}

impl<'a> Liar<'a> {
    /// At the other end of a client's socket.
    pub fn new(socket: UnixStream, pieces: &'a [u8]) -> Self {
        Self { socket, heard: Inbox::new(), pieces, said: Said::default() }
    }

    /// Talks until the client hangs up.
    pub fn converse(mut self) -> End {
        // Who hangs up costs an error.
        SigSet::from(Signal::SIGPIPE).thread_block().unwrap();
        let mut hung_up = false;
        while self.said.end.is_none() {
            if !self.said.is_awaited() {
                match self.hear() {
                    Some(request) => self.said.hear(request),
                    None => break,
                }
            } else if let Some(piece) = self.next_piece() {
                // The client may have heard enough.
                let _ = self.socket.write_all(&piece);
                self.said.say(&piece);
            } else {
                hung_up = true;
                break;
            }
        }
        let Said { strays, end, .. } = self.said;
        hung_up |= strays && end.is_some();
        if hung_up {
            self.socket.shutdown(Shutdown::Write).unwrap();
        }
        let _ = self.socket.read_to_end(&mut Vec::new());
        match end {
            _ if strays => End::Strayed { hung_up },
            Some(end) => end,
            None if hung_up => End::HungUp,
            None => End::Honest,
        }
    }

    fn next_piece(&mut self) -> Option<Vec<u8>> {
        let (len, rest) = self.pieces.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let piece;
        (piece, self.pieces) = rest.split_at(len);
        Some(if piece.is_empty() { self.said.honest() } else { piece.to_vec() })
    }

    /// The next request, once the frames behind it are read; none: the client has hung up.
    fn hear(&mut self) -> Option<Request> {
        let request = loop {
            match self.heard.pop().unwrap() {
                Some(Call::Request(request)) => break request,
                Some(Call::Knock { .. }) => {}
                None => {
                    let (read, _) = self.heard.fill(|room| self.socket.read(room)).ok()?;
                    (read > 0).then_some(())?;
                }
            }
        };
        let (stream, slots) = submitted(&request);
        for _ in slots {
            let layout = self.said.rings[&stream].layout.input();
            let mut len = layout.rows_len();
            if layout.is_coded() {
                len = u32::from_le_bytes(self.bytes(PREFIX)?.try_into().unwrap()) as usize;
            }
            self.bytes(len)?;
        }
        Some(request)
    }

    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = self.heard.take(len).to_vec();
        let there = bytes.len();
        bytes.resize(len, 0);
        self.socket.read_exact(&mut bytes[there..]).ok()?;
        Some(bytes)
    }
}

/// The slots that a request submits.
fn submitted(request: &Request) -> (u32, Vec<u32>) {
    match request {
        Request::Submit { stream, slots } => (*stream, slots.clone()),
        Request::SubmitCropped { stream, slots } => {
            (*stream, slots.iter().map(|cropped| cropped.slot).collect())
        }
        _ => (0, Vec::new()),
    }
}

struct Ring {
    layout: RingLayout,
    in_flight: BTreeSet<u32>,
    closing: bool,
}

/// What was said and heard, as the protocol has it.
#[derive(Default)]
struct Said {
    inbox: Inbox,
    /// The oldest first.
    unanswered: VecDeque<Request>,
    opening: BTreeMap<u32, StreamSpec>,
    rings: BTreeMap<u32, Ring>,
    /// The result that is on its way: its bytes, if it is known how many are still to come.
    result: Option<(u32, u32, Option<usize>)>,
    /// A message was said.
    understood: bool,
    /// Something was answered as what was not asked, or before it was.
    strays: bool,
    /// Answers to nothing.
    early: usize,
    end: Option<End>,
}

impl Said {
    /// Whether the client waits for something.
    fn is_awaited(&self) -> bool {
        let in_flight = |ring: &Ring| !ring.closing && !ring.in_flight.is_empty();
        !self.unanswered.is_empty() || self.rings.values().any(in_flight)
    }

    fn hear(&mut self, request: Request) {
        let (stream, slots) = submitted(&request);
        for slot in slots {
            self.rings.get_mut(&stream).unwrap().in_flight.insert(slot);
        }
        match &request {
            Request::Submit { .. } | Request::SubmitCropped { .. } | Request::Cancel { .. } => {
                return;
            }
            Request::Open { stream, spec, .. } => drop(self.opening.insert(*stream, *spec)),
            Request::Close { stream } => {
                if let Some(ring) = self.rings.get_mut(stream) {
                    ring.closing = true;
                }
            }
            _ => {}
        }
        match self.early.checked_sub(1) {
            Some(fewer) => self.early = fewer,
            None => self.unanswered.push_back(request),
        }
    }

    /// What answers all that the client waits for.
    fn honest(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for request in &self.unanswered {
            let reply = match request {
                Request::Hello { .. } => {
                    let (features, devices) = (Features::default(), vec!["a device".into()]);
                    Reply::Welcome { version: VERSION, features, devices }
                }
                Request::Open { stream, spec, .. } => {
                    let (ring, backing) = (RingLayout::new(spec).unwrap(), Backing::Descriptor);
                    Reply::Opened { stream: *stream, ring, backing }
                }
                Request::Close { stream } => Reply::Closed { stream: *stream },
                Request::Clients { .. } => Reply::Clients(Vec::new()),
                Request::Streams { .. } => Reply::Streams(Vec::new()),
                _ => Reply::Stats(Stats::default()),
            };
            encode(&Message::Reply(reply), &mut bytes).unwrap();
        }
        for (&stream, ring) in &self.rings {
            let output = ring.layout.output();
            for &slot in &ring.in_flight {
                let (status, device) = (Status::Done, 0);
                let (queued_ns, worked_ns) = (1, 2);
                let done = Completion { stream, slot, status, device, queued_ns, worked_ns };
                encode(&Message::Completed(done), &mut bytes).unwrap();
                match output.is_coded() {
                    true => bytes.extend([3, 0, 0, 0, 7, 7, 7]),
                    false => bytes.resize(bytes.len() + output.rows_len(), 7),
                }
            }
        }
        bytes
    }

    /// Notes what these bytes say.
    fn say(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.end.is_none() {
            let fill = |room: &mut [u8]| {
                let len = room.len().min(bytes.len());
                room[..len].copy_from_slice(&bytes[..len]);
                Ok::<_, ()>(len)
            };
            let (filled, _) = self.inbox.fill(fill).unwrap();
            bytes = &bytes[filled..];
            while self.end.is_none() && self.read() {}
        }
    }

    /// Reads one thing more. False: it is not all there.
    fn read(&mut self) -> bool {
        if let Some((stream, slot, left)) = &mut self.result {
            let ring = self.rings.get_mut(stream).unwrap();
            let Some(left) = left else {
                let longest = ring.layout.output().rows_len() - PREFIX;
                if self.inbox.len() < PREFIX {
                    return false;
                }
                let len = u32::from_le_bytes(self.inbox.take(PREFIX).try_into().unwrap()) as usize;
                if len > longest {
                    self.end = Some(End::Broke(Breach::FrameLen));
                }
                *left = Some(len);
                return true;
            };
            *left -= self.inbox.take(*left).len();
            if *left > 0 {
                return false;
            }
            ring.in_flight.remove(slot);
            self.result = None;
            return true;
        }
        match self.inbox.pop() {
            Ok(None) => return false,
            Ok(Some(Message::Reply(reply))) => self.answer(&reply),
            Ok(Some(Message::Completed(completion))) => self.complete(&completion),
            Ok(Some(Message::Goodbye(goodbye))) => self.end = Some(End::Goodbye(goodbye)),
            Err(_) if !self.understood && self.inbox.take(2) == [21, 3] => {
                self.end = Some(End::AtTls);
            }
            Err(error) => self.end = Some(End::Garbled(error)),
        }
        self.understood = true;
        true
    }

    fn complete(&mut self, completion: &Completion) {
        let Completion { stream, slot, status, .. } = *completion;
        let ring = self.rings.get_mut(&stream).filter(|ring| ring.in_flight.contains(&slot));
        let Some(ring) = ring else {
            self.end = Some(End::Broke(Breach::NotSubmitted));
            return;
        };
        if status == Status::Done {
            let output = ring.layout.output();
            self.result = Some((stream, slot, (!output.is_coded()).then(|| output.rows_len())));
        } else {
            ring.in_flight.remove(&slot);
        }
    }

    fn answer(&mut self, reply: &Reply) {
        match reply {
            Reply::Opened { stream, ring, .. } => {
                let Some(spec) = self.opening.remove(stream) else {
                    self.end = Some(End::Broke(Breach::OtherStream));
                    return;
                };
                self.opening = self.opening.split_off(stream);
                if RingLayout::new(&spec).as_ref() != Ok(ring) {
                    self.end = Some(End::Broke(Breach::RingLayout));
                    return;
                }
                let (layout, in_flight) = (ring.clone(), BTreeSet::new());
                self.rings.insert(*stream, Ring { layout, in_flight, closing: false });
            }
            Reply::Closed { stream } => match self.rings.get(stream) {
                Some(ring) if !ring.closing => {
                    self.end = Some(End::Broke(Breach::OtherStream));
                    return;
                }
                _ => drop(self.rings.remove(stream)),
            },
            _ => {}
        }
        let asked = self.unanswered.pop_front();
        self.early += usize::from(asked.is_none());
        if let (Some(Request::Hello { .. }), Reply::Refused(refusal)) = (&asked, reply) {
            self.end = Some(End::Goodbye(Goodbye::Refused(refusal.clone())));
        }
        let is_its = match (asked, reply) {
            (Some(_), Reply::Refused(_))
            | (Some(Request::Hello { .. }), Reply::Welcome { .. })
            | (Some(Request::Stats), Reply::Stats(_))
            | (Some(Request::Clients { .. }), Reply::Clients(_))
            | (Some(Request::Streams { .. }), Reply::Streams(_)) => true,
            (Some(Request::Open { stream: asked, .. }), Reply::Opened { stream, .. })
            | (Some(Request::Close { stream: asked }), Reply::Closed { stream }) => {
                asked == *stream
            }
            _ => false,
        };
        self.strays |= !is_its;
    }
}
