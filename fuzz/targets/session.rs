//! A client that says anything at all: the daemon answers or hangs up, keeps nothing of it, and another
//! client's frames are right all the while.
#![no_main]

use std::net::Shutdown;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use resized::{Devices, Limits, Options, Server};
use resized_client::Client;
use resized_fuzz::{Honest, PATIENCE, converse};

/// A daemon for all inputs, and an honest client of it.
struct Scene {
    server: Server,
    client: Client,
    honest: Honest,
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
        let honest = Honest::new(&client);
        let bytes = client.stats().unwrap().ring_bytes;
        Self { server, client, honest, bytes }
    }

    /// Waits until nothing is left of other clients.
    fn await_rest(&self) {
        for _ in 0..PATIENCE.as_millis() {
            let stats = self.client.stats().unwrap();
            if stats.streams == 1 && stats.ring_bytes == self.bytes {
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
    let socket = scene.server.connect().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    converse(&socket, &socket, || drop(socket.shutdown(Shutdown::Write)), input);
    scene.await_rest();
    scene.honest.frame(input.len() as u8);
});
