//! Owns a daemon as a process of its own, on a private socket, for one test; and ways to wait for what
//! will happen without saying when.

mod remains;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use resized_client::{Client, Endpoint, Error, Reconnect, Stats};
use tempfile::TempDir;

use crate::skip::skip;
use crate::until;
pub(crate) use crate::until::until;
use remains::Noted;

/// After this a test hangs: what it waits for has failed it before.
pub(crate) const DEADLINE: Duration = until::DEADLINE.saturating_mul(2);

/// Runs a test's body on a thread of its own, so that one that hangs fails, and leaves nothing.
pub(crate) fn bounded(body: impl FnOnce() + Send + 'static) {
    bounded_by(DEADLINE, body);
}

/// As `bounded`, for tests that take longer.
pub(crate) fn bounded_by(deadline: Duration, body: impl FnOnce() + Send + 'static) {
    let (over, wait) = channel();
    let test = thread::current().name().unwrap_or("test").to_owned();
    let run = move || {
        body();
        let _ = over.send(());
    };
    let body = thread::Builder::new().name(test).spawn(run).unwrap();
    if wait.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
        remains::clear(body.thread().id());
        panic!("still not over after {deadline:?}");
    }
    if let Err(panic) = body.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Set in a process that runs one test alone.
const ALONE: &str = "RESIZED_TEST_ALONE";

/// The file of a folder in which what a process logs is kept.
const LOG: &str = "log";

/// Runs the body of the test of that name in a process of its own, as `bounded`: what that process
/// holds is the test's, whatever other tests do meanwhile.
pub(crate) fn alone(test: &str, body: impl FnOnce() + Send + 'static) {
    if std::env::var_os(ALONE).is_some() {
        return bounded(body);
    }
    let mut itself = Command::new(std::env::current_exe().unwrap());
    itself.args(["--exact", test, "--nocapture"]).env(ALONE, "");
    let output = itself.output().unwrap();
    let [said, wrong] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    // Where there is no test of that name nothing fails either.
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{said}\n{wrong}");
    print!("{said}");
}

/// A folder that is removed when this is dropped.
pub(crate) struct Folder(TempDir, #[expect(dead_code)] Noted);

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let noted = Noted::folder(&dir);
        Self(dir, noted)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A process that is killed when this is dropped. One that keeps a log must not have panicked: clients
/// come again to a daemon that did, and notice nothing.
pub(crate) struct Process(pub(crate) Child, #[expect(dead_code)] Noted, Option<PathBuf>);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap();
        let noted = Noted::process(&child);
        Self(child, noted, None)
    }

    /// The same, with its log kept in `dir`.
    pub(crate) fn start_logged(command: &mut Command, dir: &Path) -> Self {
        let path = dir.join(LOG);
        let log = File::options().append(true).create(true).open(&path).unwrap();
        let mut process = Self::start(command.stdout(Stdio::null()).stderr(log));
        process.2 = Some(path);
        process
    }

    /// What it has logged, if that is kept.
    fn log(&self) -> Option<String> {
        self.2.as_ref().map(|path| std::fs::read_to_string(path).unwrap_or_default())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let Some(log) = self.log() else { return };
        if thread::panicking() {
            eprintln!("--- the daemon's log\n{log}---");
        } else {
            assert!(!log.contains("panicked"), "the daemon panicked:\n{log}");
        }
    }
}

/// The `resized` binary, running.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    dir: Folder,
}

impl Daemon {
    /// A daemon with these flags, ready to serve.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, &[])
    }

    /// The same, with these in its environment.
    pub(crate) fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(flags, |mut command, _| {
            command.envs(environment.iter().copied());
            command
        })
    }

    /// One whose command line, and its folder, `change` makes another of.
    pub(crate) fn start_as(flags: &[&str], change: impl FnOnce(Command, &Path) -> Command) -> Self {
        let dir = Folder::new();
        let mut command = change(command(dir.path(), flags), dir.path());
        let process = spawn(&mut command, dir.path());
        let mut daemon = Self { process, dir };
        daemon.await_socket();
        daemon
    }

    /// The same again, at the same socket, after its death.
    pub(crate) fn start_again(&mut self, flags: &[&str]) {
        self.process = spawn(&mut command(self.dir.path(), flags), self.dir.path());
        self.await_socket();
    }

    fn await_socket(&mut self) {
        until("the daemon answers", || {
            let ended = self.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}");
            Client::connect(&self.endpoint()).is_ok()
        });
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("resized.sock")
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket())
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.endpoint()).unwrap()
    }

    /// A client for which this daemon is the only one.
    pub(crate) fn faithful_client(&self) -> Client {
        self.connect().unwrap()
    }

    /// The same, if it is let in.
    pub(crate) fn connect(&self) -> Result<Client, Error> {
        Client::connect_with(&self.endpoint(), Reconnect::NEVER)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.log().unwrap_or_default()
    }

    /// Descriptors that the daemon holds.
    pub(crate) fn descriptors(&self) -> usize {
        descriptors(self.process.0.id())
    }

    /// Rings that the daemon has mapped: what it has charged it may have forgotten to unmap.
    pub(crate) fn mapped_rings(&self) -> usize {
        mapped_rings(self.process.0.id())
    }

    /// The only ring in a named segment that the daemon has mapped.
    pub(crate) fn segment(&self) -> PathBuf {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.process.0.id())).unwrap();
        let named = maps.lines().filter_map(|line| line.find(NAMED).map(|at| &line[at..]));
        let all: BTreeSet<_> = named.collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().map(PathBuf::from).collect()
    }

    /// KiB of memory that the daemon has allocated for itself, rings not counted; see proc(5).
    pub(crate) fn anonymous_kib(&self) -> u64 {
        self.kib("RssAnon:")
    }

    /// KiB of rings that the daemon has mapped and that are there.
    pub(crate) fn shared_kib(&self) -> u64 {
        self.kib("RssShmem:")
    }

    fn kib(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
    }

    /// What the daemon holds once nobody but the asking client is connected.
    pub(crate) fn at_rest(&self, client: &Client) -> (Stats, usize) {
        self.at_rest_but(client, 1)
    }

    /// What it holds once so many are connected, the asking client among them.
    pub(crate) fn at_rest_but(&self, client: &Client, sessions: u32) -> (Stats, usize) {
        let mut stats = client.stats().unwrap();
        until("the other sessions end", || {
            stats = client.stats().unwrap();
            stats.sessions == sessions
        });
        (stats, self.descriptors())
    }

    /// Waits until nothing of other clients is left: no ring is mapped, and descriptors are as many as
    /// they were.
    pub(crate) fn await_rest(&self, client: &Client, descriptors: usize) {
        until("sessions, streams, rings and descriptors are gone", || {
            let stats = client.stats().unwrap();
            (stats.sessions, stats.streams, stats.ring_bytes, stats.queued) == (1, 0, 0, 0)
                && (self.descriptors(), self.mapped_rings()) == (descriptors, 0)
        });
    }
}

/// Descriptors that a process holds; see proc(5).
pub(crate) fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// Rings that a process has mapped, by the names that the memory of both backings has.
pub(crate) fn mapped_rings(process: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let is_ring =
        |line: &&str| ["/memfd:resized-ring", NAMED].iter().any(|name| line.contains(name));
    maps.lines().filter(is_ring).count()
}

/// What the names of named segments begin with: so calls them the crate that makes them.
const NAMED: &str = "/dev/shm/shmem_";

/// The named segments of shared memory that there were when this was made.
pub(crate) struct Segments(BTreeSet<PathBuf>);

impl Segments {
    pub(crate) fn now() -> Self {
        let shared = Path::new("/dev/shm").read_dir().unwrap().flatten().map(|file| file.path());
        let is_named = |path: &PathBuf| path.to_string_lossy().starts_with(NAMED);
        Self(shared.filter(is_named).collect())
    }

    /// How many there are now that there were not.
    pub(crate) fn more(&self) -> usize {
        Self::now().0.difference(&self.0).count()
    }

    /// Waits until those are gone that there are now and were not: others' come and go meanwhile.
    pub(crate) fn await_rest(&self) {
        let more: Vec<_> = Self::now().0.difference(&self.0).cloned().collect();
        until("named segments are gone", || !more.iter().any(|path| path.exists()));
    }
}

/// The daemon's command line for a socket in `dir`, without GPUs: tests of these ask for them.
pub(crate) fn command(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resized"));
    command.arg("--socket").arg(dir.join("resized.sock")).args(flags);
    apart(&mut command).env("RESIZED_DEVICES", "cpu").env("RESIZED_LOG", "debug");
    command
}

/// With nothing of this process's service manager, nor of this machine's settings and this user's.
pub(crate) fn apart(command: &mut Command) -> &mut Command {
    let theirs = std::env::vars_os().map(|(name, _)| name);
    let theirs = theirs.filter(|name| name.as_encoded_bytes().starts_with(b"RESIZED_"));
    for name in theirs.chain(["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"].map(Into::into)) {
        command.env_remove(name);
    }
    command.env("RESIZED_CONFIG", "/dev/null")
}

/// Starts it with its log kept in `dir`.
pub(crate) fn spawn(command: &mut Command, dir: &Path) -> Process {
    Process::start_logged(command.stdin(Stdio::null()), dir)
}

/// Whether a process of that user can run the program and use the folder, if we can start one; where not
/// it says that a test is skipped.
pub(crate) fn may_run(user: u32, program: &Path, dir: &Path) -> bool {
    let mut tried = Command::new("sh");
    tried.args(["-c", r#"test -x "$0" && test -x "$1""#]).arg(program).arg(dir);
    let tried = tried.uid(user).current_dir("/").output();
    let may = tried.as_ref().is_ok_and(|output| output.status.success());
    if !may {
        let program = program.display();
        skip("users", &format!("a process of user {user} can't run {program} here: {tried:?}"));
    }
    may
}

/// That command as the arguments of a shell's script, in the place of `$0` and `$@`.
pub(crate) fn by_shell(script: &str, command: &Command) -> Command {
    by(&["sh", "-c", script], command)
}

/// That command, with its environment, behind those words.
pub(crate) fn by(words: &[&str], command: &Command) -> Command {
    let mut by = Command::new(words[0]);
    by.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => by.env(name, value),
            None => by.env_remove(name),
        };
    }
    by
}

#[test]
fn a_test_that_hangs_leaves_no_process_and_no_folder() {
    loop {
        let (tell, told) = channel();
        let hangs = move || {
            let folder = Folder::new();
            let mut process = Process::start(Command::new("sleep").arg("1000"));
            let _ = tell.send(folder.path().to_owned());
            // Until somebody ends it.
            let status = process.wait();
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
            std::mem::forget(folder);
            let _ = tell.send(PathBuf::new());
        };
        assert!(catch_unwind(|| bounded_by(Duration::from_secs(1), hangs)).is_err());
        // Unless it had not even begun.
        if let Ok(folder) = told.try_recv() {
            told.recv().expect("its process was ended");
            assert!(!folder.exists());
            break;
        }
    }
}
