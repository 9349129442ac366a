//! Clients, as processes of their own: this program, started again.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use resized_client::{Client, Pending, Stream, StreamSpec};
use resized_protocol::message::MAX_SLOTS;

use crate::{film, thumbnail};

/// Frames that a client keeps in flight: as many as `resize-videos` does on two cores.
pub(crate) const IN_FLIGHT: u32 = 6;

/// What a client does in one turn.
pub(crate) struct Work {
    pub(crate) spec: StreamSpec,
    pub(crate) frames: usize,
}

impl Work {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "film" => Self { spec: film(IN_FLIGHT), frames: 300 },
            "messages" => Self { spec: StreamSpec { slots: 128, ..thumbnail() }, frames: 100_000 },
            "wide" => Self { spec: film(MAX_SLOTS), frames: 2000 },
            name => unreachable!("{name}"),
        }
    }
}

/// One that resizes the frames of one turn each time it is told to.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// `work` names a [`Work`].
    pub(crate) fn start(endpoint: &str, work: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["client", endpoint, work]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self { child: command.spawn().unwrap() };
        process.await_answer();
        process
    }

    pub(crate) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(&[0]).unwrap();
    }

    pub(crate) fn await_answer(&mut self) {
        self.child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The process of a [`Process`].
pub(crate) fn client(endpoint: &str, work: &str) {
    let Work { spec, frames } = Work::of(work);
    let client = Client::connect(&endpoint.parse().unwrap()).unwrap();
    let stream = client.open(&spec).unwrap();
    loop {
        std::io::stdout().write_all(&[0]).unwrap();
        std::io::stdout().flush().unwrap();
        if std::io::stdin().read_exact(&mut [0]).is_err() {
            break;
        }
        resize(&stream, frames);
    }
}

/// Keeps all slots of a stream in flight until so many frames are done; those that are done together
/// are submitted together.
pub(crate) fn resize(stream: &Stream, frames: usize) {
    let mut submitted = 0;
    let mut pendings = VecDeque::new();
    while submitted < frames || !pendings.is_empty() {
        let mut slots = Vec::new();
        while submitted + slots.len() < frames
            && let Some(slot) = stream.try_loan().unwrap()
        {
            slots.push(slot);
        }
        submitted += slots.len();
        pendings.extend(stream.submit_all(slots).unwrap());
        let mut wait = pendings.pop_front();
        while let Some(oldest) = wait {
            drop(oldest.wait().unwrap());
            let ready = pendings.front().is_some_and(Pending::is_ready);
            wait = if ready { pendings.pop_front() } else { None };
        }
    }
}

/// Submits without end.
pub(crate) fn flood(endpoint: &str, work: &str) {
    let Work { spec, frames } = Work::of(work);
    let client = Client::connect(&endpoint.parse().unwrap()).unwrap();
    let stream = client.open(&spec).unwrap();
    loop {
        resize(&stream, frames);
    }
}

/// A process that is killed, stopped or not, when this is dropped.
pub(crate) struct Flood(Child);

impl Flood {
    /// `work` names a [`Work`].
    pub(crate) fn start(endpoint: &str, work: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self(command.args(["flood", endpoint, work]).spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
