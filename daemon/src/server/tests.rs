//! A whole daemon in this process, whose device hangs when a test says so.

use std::io::{Read, Write};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use resized_client::{Client, Endpoint, Extent, FrameSpec, PixelFormat, StreamSpec};
use resized_protocol::shm::{RingLayout, SlotMemory};
use tokio::sync::oneshot;

use super::*;
use crate::device::{Band, Device, DeviceError, Preparation, Resizer, Scratch};
use crate::until::until;

#[test]
fn what_a_user_may_do_depends_on_whose_daemon_it_is_and_on_its_settings() {
    const OWNER: u32 = 1000;
    let of = |peers, allow_named_segments| {
        let options = Options { peers, allow_named_segments, ..Options::default() };
        move |uid| {
            let Rights { welcome, sees_all, named_segments } = rights(&options, OWNER, uid);
            [welcome, sees_all, named_segments]
        }
    };
    let closed = of(Peers::Owner, false);
    assert_eq!(closed(OWNER), [true, true, false]);
    assert_eq!(closed(0), [true, true, false]);
    assert_eq!(closed(1001), [false, false, false]);
    let open = of(Peers::Anyone, true);
    assert_eq!(open(OWNER), [true, true, true]);
    assert_eq!(open(0), [true, true, false]);
    assert_eq!(open(1001), [true, false, false]);
}

/// Somebody waits for this device until the test lets it go on: who opens a stream, then a lane at
/// each frame, then who closes the stream.
struct Hanging(Arc<Mutex<Receiver<()>>>);

impl Hanging {
    fn new() -> (Self, Sender<()>) {
        let (go_on, waits) = channel();
        (Self(Arc::new(Mutex::new(waits))), go_on)
    }

    fn hang(&self) {
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
    }
}

impl Device for Hanging {
    fn name(&self) -> &str {
        "hanging"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn open(&self, _: &StreamSpec, _: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        self.hang();
        Ok(Box::new(HangingResizer(Self(Arc::clone(&self.0)))))
    }
}

struct HangingResizer(Hanging);

impl Drop for HangingResizer {
    fn drop(&mut self) {
        self.0.hang();
    }
}

impl Resizer for HangingResizer {
    fn worth(&self) -> u32 {
        1
    }

    fn resize(
        &self,
        _: SlotMemory<'_>,
        _: Band,
        _: &mut Scratch,
    ) -> Result<Preparation, DeviceError> {
        self.0.hang();
        Ok(Preparation::Before)
    }
}

/// The status that is given there for `/live`.
fn live(figures: &ExporterAddress) -> String {
    let ExporterAddress::Unix(path) = figures else { unreachable!() };
    let mut socket = UnixStream::connect(path).unwrap();
    socket.write_all(b"GET /live HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[test]
fn a_daemon_whose_device_is_stuck_falls_silent_and_is_not_live_until_it_goes_on() {
    const EVERY: Duration = Duration::from_millis(5);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("resized.sock");
    let figures = ExporterAddress::Unix(dir.path().join("figures.sock"));
    let (hanging, go_on) = Hanging::new();
    let scheduler = Scheduler::new(vec![Box::new(hanging)], None);
    let mut daemon =
        Daemon::of(scheduler.with_patience(Duration::from_millis(20)), Options::default()).unwrap();
    daemon.export_at(Exporter::bind(&figures, Peers::Owner).unwrap());
    let listener = Listener::bind(&socket, Peers::Owner).unwrap();
    let reports = Arc::new(AtomicUsize::new(0));
    let (stop, stopped) = oneshot::channel::<()>();
    let (controls, noted) = (daemon.controls(), Arc::clone(&reports));
    let stopped = async move {
        let note = move || {
            noted.fetch_add(1, Ordering::SeqCst);
        };
        tokio::spawn(controls.report_health(EVERY, note));
        let _ = stopped.await;
        Ok(())
    };
    let serving = thread::spawn(move || daemon.run(listener, stopped));

    let is_live = || live(&figures) == "HTTP/1.1 200 OK";
    let so_far = || reports.load(Ordering::SeqCst);
    let is_well = || {
        until("it is live", is_live);
        let before = so_far();
        until("it reports", || so_far() > before + 3);
    };
    let is_stuck = || {
        until("it is not live", || live(&figures) == "HTTP/1.1 503 Service Unavailable");
        let before = so_far();
        // Looked at all the while, by the runtime that answers this.
        thread::sleep(10 * EVERY);
        assert!(!is_live());
        assert_eq!(so_far(), before, "a report of a daemon that is stuck");
    };
    let client = Client::connect(&Endpoint::Unix(socket)).unwrap();
    is_well();
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(8, 8));
    let opening = client.opening(&StreamSpec::new(source, Extent::new(4, 4)));
    // Asked for, and not waited for.
    let opening = opening.wait_timeout(Duration::ZERO).unwrap().unwrap_err();
    is_stuck();
    go_on.send(()).unwrap();
    let stream = opening.wait().unwrap();
    is_well();
    let pending = stream.loan().unwrap().submit().unwrap();
    is_stuck();
    go_on.send(()).unwrap();
    drop(pending.wait().unwrap());
    is_well();
    drop(stream);
    is_stuck();
    go_on.send(()).unwrap();
    is_well();
    drop((client, stop));
    serving.join().unwrap().unwrap();
}

/// Waits for whoever is to give it up, as it is dropped.
struct Owing(Hanging);

impl Drop for Owing {
    fn drop(&mut self) {
        self.0.hang();
    }
}

impl Device for Owing {
    fn name(&self) -> &str {
        "owing"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn open(&self, spec: &StreamSpec, ring: &RingLayout) -> Result<Box<dyn Resizer>, DeviceError> {
        self.0.open(spec, ring)
    }
}

#[test]
fn a_daemon_ends_though_a_device_owes_it_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (hanging, go_on) = Hanging::new();
    let scheduler = Scheduler::new(vec![Box::new(Owing(hanging))], None);
    scheduler.devices().owes(0, true);
    let daemon = Daemon::of(scheduler, Options::default()).unwrap();
    let listener = Listener::bind(&dir.path().join("resized.sock"), Peers::Owner).unwrap();
    let serving = thread::spawn(move || daemon.run(listener, async { Ok(()) }));
    until("it has ended", || serving.is_finished());
    serving.join().unwrap().unwrap();
    drop(go_on);
}
