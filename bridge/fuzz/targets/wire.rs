//! A remote client that says anything at all: the bridge answers or hangs up, keeps nothing of it, here or in the daemon,
//! and another client's frames are right all the while.
#![no_main]

mod scene;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::thread;

use libfuzzer_sys::fuzz_target;
use scene::{PATIENCE, Scene};

fuzz_target!(|input: &[u8]| {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    let scene = SCENE.get_or_init(Scene::new);
    converse(TcpStream::connect(scene.bridge).unwrap(), input);
    scene.await_rest();
    scene.honest_frame(input.len() as u8);
});

/// Says these bytes and listens until the bridge hangs up, as it does when it has read them all.
fn converse(mut socket: TcpStream, bytes: &[u8]) {
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
                Err(error) => panic!("the bridge neither answers nor hangs up: {error}"),
            }
        }
    });
}
