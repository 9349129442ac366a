//! A daemon, and a bridge to it as a process of its own; certificates for both.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use resized::{Devices, Listener, Options, Peers, Server};
use resized_client::{
    Client, Credentials, Endpoint, Error, Extent, Filter, FrameSpec, PixelFormat, Reconnect,
    Stream, StreamSpec,
};
use tempfile::TempDir;

use crate::until;
pub(crate) use crate::until::until;

/// After this a test hangs: what it waits for has failed it before.
pub(crate) const DEADLINE: Duration = until::DEADLINE.saturating_mul(2);

/// Runs a test's body on a thread of its own, so that one that hangs fails.
pub(crate) fn bounded(body: impl FnOnce() + Send + 'static) {
    let (over, wait) = channel();
    let body = thread::spawn(move || {
        body();
        let _ = over.send(());
    });
    if wait.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
        panic!("still not over after {DEADLINE:?}");
    }
    if let Err(panic) = body.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until each of those who count what they have done has done some more.
pub(crate) fn everybody_gets_on(rounds: &[AtomicU32]) {
    let now = || rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed));
    let before: Vec<_> = now().collect();
    until("everybody gets on", || now().zip(&before).all(|(now, before)| now > before + 3));
}

/// A daemon in this process, at a socket.
pub(crate) struct Local {
    dir: TempDir,
    server: Option<Server>,
}

impl Local {
    pub(crate) fn start() -> Self {
        let mut local = Self { dir: tempfile::tempdir().unwrap(), server: None };
        local.start_again();
        local
    }

    pub(crate) fn start_again(&mut self) {
        let options = Options { devices: Devices::Cpu, ..Options::default() };
        let listener = Listener::bind(&self.dir.path().join("resized.sock"), Peers::Owner).unwrap();
        self.server = Some(Server::at(listener, options).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().unwrap();
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.path().join("resized.sock"))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.endpoint()).unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The `resized-bridge` binary, running.
pub(crate) struct Bridge {
    process: Child,
    flags: Vec<String>,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Bridge {
    /// A bridge to the daemon, at a port that is free.
    pub(crate) fn start(local: &Local, flags: &[&str]) -> Self {
        let mut all = vec!["--daemon".to_owned(), local.endpoint().to_string()];
        all.extend(flags.iter().map(ToString::to_string));
        let (process, address, log) = spawn(&all, "127.0.0.1:0");
        Self { process, flags: all, address, log }
    }

    /// The same again, at the same port, after its death.
    pub(crate) fn start_again(&mut self) {
        (self.process, _, self.log) = spawn(&self.flags, &self.address.to_string());
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn tell_to_stop(&self) {
        signal::kill(Pid::from_raw(self.id() as i32), Signal::SIGTERM).unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.tell_to_stop();
        self.has_stopped();
    }

    /// Waits until it has.
    pub(crate) fn has_stopped(&mut self) {
        assert!(self.process.wait().unwrap().success(), "{}", self.log());
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("tcp://{}", self.address).parse().unwrap()
    }

    /// By the name that certificates are for.
    pub(crate) fn secure(&self) -> Endpoint {
        format!("tls://localhost:{}", self.address.port()).parse().unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.endpoint()).unwrap()
    }

    /// A connection that says nothing by itself.
    pub(crate) fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE / 2)).unwrap();
        socket
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resized-bridge"));
    command.env_clear();
    command
}

/// Starts it and learns from its log where it listens.
fn spawn(flags: &[String], listen: &str) -> (Child, SocketAddr, Arc<Mutex<String>>) {
    let mut command = command();
    command.args(flags).args(["--listen", listen]).stderr(Stdio::piped()).env("NO_COLOR", "1");
    let mut process = command.spawn().unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            kept.lock().unwrap().extend([&line, "\n"]);
        }
    });
    let mut address = None;
    until("the bridge listens", || {
        let log = log.lock().unwrap();
        let found = log.split_whitespace().find_map(|word| word.strip_prefix("address="));
        address = found.map(|address| address.parse().unwrap());
        assert!(address.is_some() || process.try_wait().unwrap().is_none(), "{log}");
        address.is_some()
    });
    (process, address.unwrap(), log)
}

/// An authority, and what it has signed.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { dir: tempfile::tempdir().unwrap(), issuer };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Paths of a certificate for localhost and of its key.
    pub(crate) fn sign(&self, name: &str, expired: bool) -> (PathBuf, PathBuf) {
        self.sign_for("localhost", name, expired)
    }

    /// The same for another host.
    pub(crate) fn sign_for(&self, host: &str, name: &str, expired: bool) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (certificate_path, key_path) =
            (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        std::fs::write(&certificate_path, certificate.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        (certificate_path, key_path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// With these credentials, without looking for the bridge again.
pub(crate) fn connect(endpoint: &Endpoint, credentials: &Credentials) -> Result<Client, Error> {
    Client::connect_as(endpoint, Reconnect::NEVER, credentials)
}

pub(crate) fn spec(format: PixelFormat, slots: u32) -> StreamSpec {
    let source = FrameSpec::new(format, Extent::new(99, 51));
    let spec = StreamSpec::new(source, Extent::new(40, 33));
    StreamSpec { filter: Filter::Lanczos3, slots, ..spec }
}

/// A packed source frame (xorshift, Marsaglia 2003).
pub(crate) fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..len).map(next).collect()
}

/// What a frame becomes, by a stream.
pub(crate) fn resized(stream: &Stream, seed: u32) -> Result<Vec<u8>, Error> {
    let mut slot = stream.loan()?;
    let packed = noise(slot.layout().packed_len(), seed);
    slot.write_packed(&packed)?;
    Ok(slot.submit()?.wait()?.to_packed())
}
