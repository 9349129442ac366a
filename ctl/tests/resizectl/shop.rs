//! Owns what every test here needs: pictures, runs of the program, and a daemon to run it on.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use image::{DynamicImage, Rgb, RgbImage};
use resized::{Devices, Limits, Listener, Options, Peers, Server};
use resized_client::{Client, Endpoint};
use resized_protocol::VERSION;
use resized_protocol::codec;
use resized_protocol::message::{Features, Message, Reply};
use tempfile::TempDir;
use turbojpeg::{Image, PixelFormat, Subsamp};

const PROGRAM: &str = env!("CARGO_BIN_EXE_resizectl");

/// In seconds: far longer than any run takes on a loaded machine.
pub(crate) const DEADLINE: &str = "120";

/// A folder for files, gone at the end of the test.
pub(crate) struct Shop {
    dir: TempDir,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The program in this folder, with no daemon to be found but its own.
    pub(crate) fn command(&self) -> Command {
        self.prepared(Command::new(PROGRAM))
    }

    /// The same, ended if it hangs. Signals are passed on to it.
    pub(crate) fn bounded(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "-sKILL", DEADLINE, PROGRAM]);
        self.prepared(command)
    }

    fn prepared(&self, mut command: Command) -> Command {
        command
            .env_remove("RESIZED_ENDPOINT")
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .current_dir(self.dir.path());
        command
    }

    /// Runs it; it is ended if it hangs.
    pub(crate) fn run(&self, line: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", DEADLINE, PROGRAM]);
        self.prepared(command).args(line.split_whitespace()).output().unwrap()
    }

    /// Runs it, and it must succeed.
    #[track_caller]
    pub(crate) fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, and it must fail; what it said.
    #[track_caller]
    pub(crate) fn bad(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A picture that was written.
    #[track_caller]
    pub(crate) fn picture(&self, name: &str) -> DynamicImage {
        let bytes = fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        if !bytes.starts_with(&[0xFF, 0xD8]) {
            return image::load_from_memory(&bytes).expect(name);
        }
        let picture = turbojpeg::decompress(&bytes, PixelFormat::RGB).expect(name);
        let (width, height) = (picture.width as u32, picture.height as u32);
        RgbImage::from_raw(width, height, picture.pixels).unwrap().into()
    }
}

/// Smooth colours, different everywhere.
pub(crate) fn scenery(width: u32, height: u32) -> RgbImage {
    let wave = |at: u32, of: u32, times: f32| {
        let phase = at as f32 / of as f32 * times * std::f32::consts::TAU;
        (127.5 + 127.5 * phase.sin()) as u8
    };
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([wave(x, width, 1.0), wave(y, height, 1.5), wave(x + y, width + height, 0.5)])
    })
}

/// As a JPEG of high quality.
pub(crate) fn jpeg(picture: &RgbImage, subsamp: Subsamp) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels = picture.as_raw().as_slice();
    let image = Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB };
    turbojpeg::compress(image, 95, subsamp).unwrap().to_vec()
}

/// The file with a segment behind its first.
pub(crate) fn with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let first = 4 + usize::from(u16::from_be_bytes([jpeg[4], jpeg[5]]));
    let len = ((content.len() + 2) as u16).to_be_bytes();
    [&jpeg[..first], &[0xFF, marker], &len, content, &jpeg[first..]].concat()
}

/// Mean difference of the samples of two pictures of one size.
#[track_caller]
pub(crate) fn difference(one: &DynamicImage, other: &DynamicImage) -> f64 {
    let (one, other) = (one.to_rgb8(), other.to_rgb8());
    assert_eq!(one.dimensions(), other.dimensions());
    let sum: u64 = one.iter().zip(other.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.len() as f64
}

/// A daemon on the cores, in this process, at a socket.
pub(crate) struct Service {
    dir: TempDir,
    server: Option<Server>,
    limits: Limits,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default())
    }

    /// Whose users may have no more than this.
    pub(crate) fn with(limits: Limits) -> Self {
        let mut service = Self { dir: tempfile::tempdir().unwrap(), server: None, limits };
        service.start_again();
        service
    }

    /// At the same place, after a [`stop`](Self::stop).
    pub(crate) fn start_again(&mut self) {
        let listener = Listener::bind(&self.socket(), Peers::Owner).unwrap();
        let (devices, limits) = (Devices::Cpu, self.limits);
        let options = Options { devices, limits, ..Options::default() };
        self.server = Some(Server::at(listener, options).unwrap());
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("resized.sock")
    }

    /// As on the command line.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    pub(crate) fn client(&self) -> Client {
        connect(&self.socket())
    }

    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says welcome to whoever connects, and then nothing more. The folder holds its socket.
pub(crate) fn mute(shop: &Shop, device: &str) -> String {
    let path = shop.path("mute.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (features, devices) = (Features::default(), vec![device.to_owned()]);
    let welcome = Message::Reply(Reply::Welcome { version: VERSION, features, devices });
    let mut bytes = Vec::new();
    codec::encode(&welcome, &mut bytes).unwrap();
    thread::spawn(move || {
        // Connected till the end of the tests.
        let mut welcomed = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.write_all(&bytes);
            welcomed.push(client);
        }
    });
    format!("unix:{}", path.display())
}

fn connect(socket: &Path) -> Client {
    Client::connect(&Endpoint::Unix(socket.to_owned())).unwrap()
}
