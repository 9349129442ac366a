//! Owns the resizers of Python's world: a process for each row, `server.py`, that resizes once for each
//! line and answers with the milliseconds it took. So Python is started and the picture made before
//! the turns, and turns interleave like all others.
//!
//! Its interpreter is `PEERS_PYTHON`, or `python3`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use resized_protocol::message::StreamSpec;
use resized_protocol::placement::Framing;

use super::Absent;
use crate::frame::{self, Frame};
use crate::turn::Contender;

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/server.py");

pub(crate) struct Python {
    process: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    work: StreamSpec,
    /// Bytes of a result.
    len: usize,
}

impl Python {
    /// `resizer` is one of those in `server.py`.
    pub(crate) fn open(work: &StreamSpec, resizer: &str) -> Result<Self, Absent> {
        let source = Frame::source(work);
        let destination = Frame::empty(work.destination);
        let mut process = Command::new(interpreter())
            .arg(SERVER)
            .arg(resizer)
            .arg(described(work, &source))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Absent(format!("{}: {error}", interpreter().display())))?;
        let requests = process.stdin.take().expect("a pipe");
        let replies = BufReader::new(process.stdout.take().expect("a pipe"));
        let len = destination.packed().len();
        let mut python = Self { process, requests, replies, work: *work, len };
        let reply = python.reply();
        if reply != "ready" {
            return Err(Absent(reply));
        }
        python.request(source.packed());
        Ok(python)
    }

    fn request(&mut self, bytes: &[u8]) {
        self.requests.write_all(bytes).expect("server.py lives");
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("a line of server.py");
        line.trim_end().to_owned()
    }
}

impl Contender for Python {
    fn turn(&mut self) -> f64 {
        self.request(b"turn\n");
        self.reply().parse().expect("milliseconds")
    }

    fn made(&mut self) -> Option<Vec<f32>> {
        self.request(b"made\n");
        let mut bytes = vec![0; self.len];
        self.replies.read_exact(&mut bytes).expect("a picture");
        frame::samples(&self.work, &bytes)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // That it has ended already is all that could go wrong.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A work as `server.py` reads it.
fn described(work: &StreamSpec, source: &Frame) -> String {
    let picture = work.placement().expect("no crop").destination;
    let pad = match work.framing {
        Framing::Fit { pad, .. } => pad,
        _ => [0; 3],
    };
    format!(
        r#"{{"bytes":{},"channels":{},"source":{:?},"target":{:?},"picture":{:?},"pad":{pad:?},"mean":{:?},"scale":{:?}}}"#,
        source.packed().len(),
        source.planes()[0].channels,
        [work.source.extent.width, work.source.extent.height],
        [work.destination.extent.width, work.destination.extent.height],
        [picture.left, picture.top, picture.extent.width, picture.extent.height],
        work.normalisation.mean,
        work.normalisation.scale,
    )
}

/// Of both libraries, as far as they are there.
pub(crate) fn versions() -> String {
    let output = Command::new(interpreter()).arg(SERVER).arg("versions").output();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    output.unwrap_or_else(|_| "no Python".to_owned())
}

fn interpreter() -> OsString {
    std::env::var_os("PEERS_PYTHON").unwrap_or_else(|| "python3".into())
}
