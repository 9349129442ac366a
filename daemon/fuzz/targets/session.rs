//! A client that says anything at all: the daemon answers or hangs up, keeps nothing of it, and another
//! client's frames are right all the while.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resized::{Devices, Limits, Options, Server};
use resized_client::{Client, Extent, FrameSpec, PixelFormat, Stream, StreamSpec};

/// Longer than any frame within the limits below takes, sanitizers included.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon for all inputs, and an honest client of it.
struct Scene {
    server: Server,
    client: Client,
    stream: Stream,
    /// Bytes of the honest client's ring.
    bytes: u64,
}

impl Scene {
    fn new() -> Self {
        // So much that streams can be opened, and so little that none takes long.
        let limits = Limits { ring_bytes: 4 << 20, ..Limits::default() };
        let options = Options { devices: Devices::Cpu, limits, ..Options::default() };
        let server = Server::embedded_with(options).unwrap();
        let client = Client::from_socket(server.connect().unwrap()).unwrap();
        let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(64, 64));
        let stream = client.open(&StreamSpec::new(source, Extent::new(32, 32))).unwrap();
        let bytes = client.stats().unwrap().region_bytes;
        Self { server, client, stream, bytes }
    }

    /// A frame of one shade stays that.
    fn honest_frame(&self, shade: u8) {
        let mut slot = self.stream.loan().unwrap();
        slot.plane_mut(0).fill(shade);
        let frame = slot.submit().unwrap().wait().unwrap();
        let plane = frame.layout().planes()[0];
        for row in frame.plane(0).chunks(plane.stride) {
            assert!(row[..plane.row_bytes()].iter().all(|&pixel| pixel == shade));
        }
    }

    /// Waits until nothing is left of other clients.
    fn await_rest(&self) {
        for _ in 0..PATIENCE.as_millis() {
            let stats = self.client.stats().unwrap();
            if stats.streams == 1 && stats.region_bytes == self.bytes {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("{:?} are left", self.client.stats().unwrap());
    }
}

fuzz_target!(|input: &[u8]| {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    let scene = SCENE.get_or_init(Scene::new);
    converse(scene.server.connect().unwrap(), input);
    scene.await_rest();
    scene.honest_frame(input.len() as u8);
});

/// Says these bytes and listens until the daemon hangs up, as it does when it has read them all.
fn converse(mut socket: UnixStream, bytes: &[u8]) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = socket.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // It may hang up in the middle of them.
            let _ = said.write_all(bytes);
            let _ = said.shutdown(Shutdown::Write);
        });
        let mut heard = [0; 4096];
        loop {
            match socket.read(&mut heard) {
                Ok(1..) => {}
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                // The fuzzer's own alarm.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the daemon neither answers nor hangs up: {error}"),
            }
        }
    });
}
