//! One daemon, used from here and through a bridge at the same time.

use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use clap::Parser;
use resized::{Daemon, Devices, Listener, Options, Peers};
use resized_bridge::{Args, serve};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::bench::{Bench, frame_names};

/// A daemon and a bridge to it, in this process.
struct Service {
    dir: TempDir,
    bridge: SocketAddr,
    stops: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Service {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("resized.sock");
        let listener = Listener::bind(&socket, Peers::Owner).unwrap();
        let options = Options { devices: Devices::Cpu, ..Options::default() };
        let daemon = Daemon::new(options).unwrap();
        let (stop_daemon, stopped) = oneshot::channel::<()>();
        let daemon = thread::spawn(move || {
            let stopped = async {
                let _ = stopped.await;
                Ok(())
            };
            daemon.run(listener, stopped).unwrap();
        });
        let daemon_socket = format!("unix:{}", socket.display());
        let args = ["bridge", "--listen", "127.0.0.1:0", "--daemon", &daemon_socket];
        let args = Args::try_parse_from(args).unwrap();
        let (stop_bridge, stopped) = oneshot::channel::<()>();
        let (ready, listening) = channel();
        let bridge = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let stopped = async { drop(stopped.await) };
            let ready = |addresses: &[SocketAddr]| ready.send(addresses[0]).unwrap();
            runtime.unwrap().block_on(serve(&args, ready, stopped)).unwrap();
        });
        let (stops, threads) = (vec![stop_bridge, stop_daemon], vec![bridge, daemon]);
        Self { dir, bridge: listening.recv().unwrap(), stops, threads }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stops.clear();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn remote_instances_write_what_local_ones_write() {
    let service = Service::start();
    let (near, far) = (Bench::new(), Bench::new());
    let clip = near.clip("clip.mkv", "testsrc2=size=322x242:rate=25", "-frames:v 40 -c:v mpeg4");
    let start = |bench: &Bench, endpoint: String| {
        let options = ["-n", "2", "-m", "0", "-s", "120x90", "--connect", &endpoint];
        bench.command(&[&clip]).args(options).spawn().unwrap()
    };
    let socket = service.dir.path().join("resized.sock");
    let mut runs = [
        start(&near, format!("unix:{}", socket.display())),
        start(&far, format!("tcp://{}", service.bridge)),
    ];
    for run in &mut runs {
        assert!(run.wait().unwrap().success());
    }
    for instance in [1, 2] {
        for name in frame_names(40) {
            let [near, far] = [&near, &far].map(|bench| {
                let path = format!("out/vid-instance{instance}/{name}");
                fs::read(bench.path(&path)).unwrap()
            });
            assert!(near == far, "{name} of instance {instance}");
        }
    }
}
