//! A remote client that says anything at all: the bridge answers or hangs up, keeps nothing of it,
//! here or in the daemon, and another client's frames are right all the while.
#![no_main]

#[path = "../../../daemon/fuzz/targets/peers/converse.rs"]
mod converse;
mod scene;

use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;

use converse::converse;
use libfuzzer_sys::fuzz_target;
use scene::{PATIENCE, Scene};

fuzz_target!(|input: &[u8]| {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    let scene = SCENE.get_or_init(Scene::new);
    let socket = TcpStream::connect(scene.bridge).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    converse(&socket, &socket, || drop(socket.shutdown(Shutdown::Write)), input);
    scene.await_rest();
    scene.honest.frame(input.len() as u8);
});
