//! A remote client that says anything at all: the bridge answers or hangs up, keeps nothing of it,
//! here or in the daemon, and another client's frames are right all the while.
#![no_main]

use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use resized_fuzz::{PATIENCE, Scene, converse};

fuzz_target!(|input: &[u8]| {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    let scene = SCENE.get_or_init(Scene::start);
    let socket = TcpStream::connect(scene.bridge).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    converse(&socket, &socket, || drop(socket.shutdown(Shutdown::Write)), input);
    scene.await_rest();
    scene.honest.frame(input.len() as u8);
});
