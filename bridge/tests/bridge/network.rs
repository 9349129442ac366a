//! Hosts of a network in this machine, each with nothing but its own address, and a switch that can
//! cut any of them off without a word: what is sent then vanishes, and nobody is told.
//!
//! Who makes one is root, here or in a namespace of users.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::skip::skip;

/// Set where a test runs again, as root of a namespace of users.
const AGAIN: &str = "RESIZED_TEST_NAMESPACE";

/// Runs a test's body with a network. Where this process may make none, the test is run again as
/// one who may, if anybody may; if not it is skipped, and says so.
pub(crate) fn with_network(test: &str, body: impl FnOnce(Network)) {
    match Network::new() {
        Ok(network) => body(network),
        Err(why) if std::env::var_os(AGAIN).is_some() => panic!("no network even so: {why}"),
        Err(why) => {
            let there = |program: &OsStr, args: &[&str]| {
                let mut unshare = Command::new("unshare");
                unshare.args(["--map-root-user", "--net", "--"]).arg(program).args(args);
                unshare.env(AGAIN, "1").output()
            };
            let alone = there(OsStr::new("ip"), &["link", "add", "type", "bridge"]);
            if !alone.as_ref().is_ok_and(|output| output.status.success()) {
                return skip("networks", &format!("there are none of our own: {why}; {alone:?}"));
            }
            let this = std::env::current_exe().unwrap();
            let args = ["--exact", test, "--nocapture", "--test-threads=1"];
            let output = there(this.as_os_str(), &args).unwrap();
            let [said, wrong] =
                [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
            // Where there is no test of that name nothing fails either.
            let passed = output.status.success() && said.contains("1 passed");
            assert!(passed, "{test}, in a namespace of users: {said}\n{wrong}");
        }
    }
}

/// The switch.
pub(crate) struct Network {
    space: Space,
    hosts: u8,
}

/// A host.
pub(crate) struct Host {
    space: Space,
    pub(crate) address: IpAddr,
    /// Its port of the switch.
    port: String,
}

/// A network namespace, as long as it is known of.
struct Space(File);

impl Space {
    fn new() -> Result<Self, String> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| errno.to_string())?;
            File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string())
        });
        let space = Self(made.join().unwrap()?);
        space.run(|| ip("link set lo up"))?;
        Ok(space)
    }

    /// On a thread that is there, as those that it starts are, and processes.
    fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let there = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        };
        let done = thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// For other processes, while this is there.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

impl Network {
    fn new() -> Result<Self, String> {
        let space = Space::new()?;
        space.run(|| ip("link add switch type bridge").and_then(|()| ip("link set switch up")))?;
        Ok(Self { space, hosts: 0 })
    }

    pub(crate) fn host(&mut self) -> Host {
        self.hosts += 1;
        let space = Space::new().unwrap();
        let (port, there, address) =
            (format!("port{}", self.hosts), space.path(), Ipv4Addr::new(10, 77, 0, self.hosts));
        let plug = || {
            ip(&format!("link add {port} type veth peer name eth netns {there}"))?;
            ip(&format!("link set {port} master switch up"))
        };
        self.space.run(plug).unwrap();
        let address_it = || {
            ip(&format!("address add {address}/24 dev eth"))?;
            ip("link set eth up")
        };
        space.run(address_it).unwrap();
        Host { space, address: address.into(), port }
    }

    /// Cuts it off.
    pub(crate) fn cut(&self, host: &Host) {
        self.space.run(|| ip(&format!("link set {} down", host.port))).unwrap();
    }

    pub(crate) fn mend(&self, host: &Host) {
        self.space.run(|| ip(&format!("link set {} up", host.port))).unwrap();
    }
}

impl Host {
    /// Does that there: what is begun there, threads and processes, stays there.
    pub(crate) fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.space.run(body)
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("ip, of iproute2: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
