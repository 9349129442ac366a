//! Owns the resizers of Python's world: a process for each row, `server.py`, that resizes once for each
//! line and answers with the milliseconds it took. So Python is started and the picture made before
//! the turns, and turns interleave like all others.
//!
//! Its interpreter is `PEERS_PYTHON`, or `python3`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use resized_protocol::message::StreamSpec;

use super::Absent;
use crate::frame::Frame;
use crate::turn::Contender;

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/server.py");

pub(crate) struct Python {
    process: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    /// Bytes of a result.
    len: usize,
}

impl Python {
    /// `resizer` is one of those in `server.py`.
    pub(crate) fn open(work: &StreamSpec, resizer: &str) -> Result<Self, Absent> {
        let source = Frame::noise(work.source);
        let destination = Frame::empty(work.destination);
        let [from, to] = [&source, &destination].map(|frame| frame.planes()[0]);
        let sizes = [from.extent, to.extent].map(|extent| [extent.width, extent.height]);
        let mut process = Command::new(interpreter())
            .arg(SERVER)
            .arg(resizer)
            .args(sizes.as_flattened().iter().map(u32::to_string))
            .arg(from.channels.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Absent(format!("{}: {error}", interpreter().display())))?;
        let requests = process.stdin.take().expect("a pipe");
        let replies = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut python = Self { process, requests, replies, len: destination.packed().len() };
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
        Some(bytes.into_iter().map(f32::from).collect())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // That it has ended already is all that could go wrong.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
