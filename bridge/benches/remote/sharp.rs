//! JPEGs beside a server of sharp (libvips for Node.js) that takes them by HTTP, as services that
//! resize pictures commonly do.
//!
//! It is fetched by nobody but who wants it: `SHARP` names a folder in which `npm install sharp`
//! was run.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use turbojpeg::Subsamp;

use super::jpegs::{CodedStreams, photo};
use super::{CONNECTIONS, FRAMES, Process, film, in_turns, per_second};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/remote/sharp.js");

/// Of sharp's, each with one picture on its way: the better of them is the yardstick.
const TRIED: [usize; 2] = [CONNECTIONS, 2 * CONNECTIONS];

/// Frames a second of several connections, beside as many pictures as sharp makes of the same one.
pub(crate) fn beside_sharp(bridge: &Process) -> String {
    let Some(folder) = std::env::var_os("SHARP").filter(|folder| !folder.is_empty()) else {
        println!(
            "JPEGs beside sharp: left out, as there is no SHARP=folder with node_modules/sharp"
        );
        return r#"{"figure":"sharp","ours_fps":null}"#.into();
    };
    let server = start(folder);
    let address = server.address.expect("node, and sharp in SHARP's node_modules");
    let jpeg = photo();
    let streams = CodedStreams::open(bridge);
    let ours = streams.made(&jpeg);
    let theirs = Connection::open(address).resize(&jpeg);
    let alike = alike(&ours, &theirs);
    let all = FRAMES * CONNECTIONS;
    let sharp = |connections: usize| {
        let connections: Vec<_> = (0..connections).map(|_| Connection::open(address)).collect();
        let each = all / connections.len();
        per_second(all, || {
            thread::scope(|scope| {
                for mut connection in connections {
                    let jpeg = &jpeg;
                    scope.spawn(move || (0..each).for_each(|_| drop(connection.resize(jpeg))));
                }
            });
        })
    };
    // The first brings pages and caches.
    let _ = TRIED.map(sharp);
    let tried = TRIED.map(|connections| (connections, sharp(connections)));
    let (connections, _) = tried.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let (ours_fps, sharp_fps, ratio) =
        in_turns(|| per_second(all, || streams.resize(&jpeg)), || sharp(connections));
    println!(
        "JPEG 1080p -> JPEG 640x360, {CONNECTIONS} connections: {ours_fps:.0} frames/s, sharp by HTTP, {connections} connections \
         {sharp_fps:.0}: {ratio:.2}x (goal 3x); {} and {} bytes, {alike:.1} dB alike",
        ours.len(),
        theirs.len()
    );
    format!(
        r#"{{"figure":"sharp","ours_fps":{ours_fps:.1},"sharp_fps":{sharp_fps:.1},"ratio":{ratio:.3},"sharp_connections":{connections},"ours_bytes":{},"sharp_bytes":{},"alike_db":{alike:.2}}}"#,
        ours.len(),
        theirs.len()
    )
}

fn start(folder: OsString) -> Process {
    let mut node = Command::new("node");
    node.env("NODE_PATH", Path::new(&folder).join("node_modules"));
    Process::start(node.arg(SERVER).stderr(Stdio::piped()))
}

/// Decibels between two results, which have the same extent and the same subsampling.
fn alike(one: &[u8], other: &[u8]) -> f64 {
    let extent = film(1).destination.extent;
    let [one, other] = [one, other].map(|jpeg| {
        let header = turbojpeg::read_header(jpeg).unwrap();
        assert_eq!((header.width, header.height), (extent.width as usize, extent.height as usize));
        assert_eq!(header.subsamp, Subsamp::Sub2x2);
        turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB).unwrap().pixels
    });
    let squares = one.iter().zip(&other).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    10.0 * (255.0_f64.powi(2) * one.len() as f64 / squares.sum::<f64>()).log10()
}

/// One that is kept, and has one picture on its way.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self(BufReader::new(socket))
    }

    fn resize(&mut self, jpeg: &[u8]) -> Vec<u8> {
        let socket = self.0.get_mut();
        let head =
            format!("POST / HTTP/1.1\r\nHost: sharp\r\nContent-Length: {}\r\n\r\n", jpeg.len());
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(jpeg).unwrap();
        let (mut line, mut len) = (String::new(), None);
        self.0.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "sharp.js says {line:?}");
        while line != "\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "sharp.js is gone");
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse().ok();
            }
        }
        let mut made = vec![0; len.expect("a length")];
        self.0.read_exact(&mut made).unwrap();
        made
    }
}
