//! Owns the folder in which a page's commands are run, and the shell that runs them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::page::{Page, ROOT};
use crate::port::free_port;

/// A page's commands that take longer hang.
const SECONDS: &str = "120";

/// Ahead of the commands. What is started in the background is waited for until it says that it is
/// ready, as a reader who types would have; and ended in the end.
const PROLOGUE: &str = "
ready() {
    until grep -qE ' ready |listening|Server is ready' \"$1\"; do
        kill -0 $! || { cat \"$1\"; return 1; }
        sleep 0.05
    done
} 2>/dev/null
trap 'kill $(jobs -p); wait' EXIT
set -x
";

/// A command that takes root and systemd, and what comes of it, which those after it need.
const STANDS_FOR: (&str, &str) = (
    "sudo systemctl restart resized",
    "resized --config /etc/resized/resized.toml --socket /run/resized-daemon/resized.sock &",
);

/// A folder in which a page's commands were run.
pub(crate) struct Scratch {
    dir: TempDir,
    page: String,
    /// By the commands, and by the shell about them.
    pub(crate) said: String,
}

impl Scratch {
    /// Runs them, and they must succeed.
    #[track_caller]
    pub(crate) fn run(page: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let page = Page::read(page);
        let here = Here::new(dir.path());
        fill(dir.path());
        for block in &page.blocks {
            if let Some(name) = block.file() {
                let path = dir.path().join(here.said(name));
                assert!(path.starts_with(dir.path()), "{}: {name} is somebody's", page.name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, here.said(&block.text)).unwrap();
            }
        }
        let (restart, daemon) = STANDS_FOR;
        let commands = page.commands().into_iter();
        let commands: Vec<String> = commands
            .map(|command| here.said(if command == restart { daemon } else { &command }))
            .collect();
        assert!(!commands.is_empty(), "{} has no commands", page.name);
        let changes =
            |command: &&String| command.contains("sudo ") || command.contains("systemctl ");
        // Whoever runs the tests may be root.
        assert_eq!(commands.iter().find(changes), None, "{}: not here: list it", page.name);
        let said = shell(dir.path(), &commands);
        Self { dir, page: page.name, said }
    }

    /// Files that must have come of it.
    #[track_caller]
    pub(crate) fn expect(&self, files: &[&str]) {
        for file in files {
            let len = fs::metadata(self.dir.path().join(file)).map_or(0, |file| file.len());
            assert!(len > 0, "{}: no {file}: {}", self.page, self.said);
        }
    }
}

/// What pages name that is elsewhere, and what stands for it here.
struct Here([(&'static str, String); 7]);

impl Here {
    fn new(dir: &Path) -> Self {
        let [near, bridge, other, nats] = [(); 4].map(|()| free_port().to_string());
        Self([
            ("/etc/", format!("{}/etc/", dir.display())),
            ("/run/resized-daemon/", format!("{}/", dir.display())),
            ("camera-hub.example", "localhost".to_owned()),
            ("7787", near),
            ("7788", bridge),
            ("7789", other),
            ("4222", nats),
        ])
    }

    fn said(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }
}

/// What a reader has in his folder: a video, photographs, a checkout.
fn fill(dir: &Path) {
    for (name, options) in [
        ("holiday.mp4", ["-frames:v", "10", "-c:v", "mpeg4"]),
        ("photo.jpg", ["-frames:v", "1", "-c:v", "mjpeg"]),
        ("portrait.jpg", ["-frames:v", "1", "-c:v", "mjpeg"]),
    ] {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25"]);
        let made = ffmpeg.args(options).args(["-pix_fmt", "yuv420p"]).arg(dir.join(name)).status();
        assert!(made.expect("the ffmpeg tool is needed to make clips").success());
    }
    symlink(Path::new(ROOT).join("systemd"), dir.join("systemd")).unwrap();
}

/// Where the programs are.
pub(crate) fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_resize-videos")).parent().unwrap();
    for (program, package) in
        [("resized", "resized"), ("resizectl", "resizectl"), ("resized-bridge", "resized-bridge")]
    {
        // Of other packages, so cargo does not promise that they are there.
        assert!(folder.join(program).is_file(), "{program} is needed: cargo build -p {package}");
    }
    folder.to_path_buf()
}

/// What makes a program's pages, or the notices of others' work.
pub(crate) fn example(name: &str) -> PathBuf {
    let path = programs().join("examples").join(name);
    // Not a part of the tests of one target alone.
    assert!(path.is_file(), "{name} is needed: cargo build --workspace --examples");
    path
}

/// What a program, or a command of one, says of its flags.
pub(crate) fn help(program: &str) -> String {
    let mut words = program.split(' ');
    let path = programs().join(words.next().unwrap());
    let output = Command::new(path).args(words).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Those flags, without the hyphens before them.
pub(crate) fn flags(program: &str) -> Vec<String> {
    let help = help(program);
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let flags =
        lines.filter_map(|line| line.split([' ', ',']).find_map(|word| word.strip_prefix("--")));
    let flags: Vec<_> = flags.map(str::to_owned).collect();
    assert!(flags.contains(&"help".to_owned()), "{program}: {help}");
    flags
}

#[track_caller]
fn shell(dir: &Path, commands: &[String]) -> String {
    let mut script = PROLOGUE.to_owned();
    for (number, command) in commands.iter().enumerate() {
        match command.strip_suffix(" &") {
            Some(command) => script += &format!("{command} 2>log.{number} &\nready log.{number}\n"),
            None => script.extend([command, "\n"]),
        }
    }
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("timeout");
    shell.args([SECONDS, "bash", "-eu", "-o", "pipefail", "-c", &script]).current_dir(dir);
    for variable in ["RESIZED_ENDPOINT", "RESIZED_CONFIG", "RESIZED_LOG", "RESIZED_CPU"] {
        shell.env_remove(variable);
    }
    // haproxy is where only root's PATH leads.
    shell.env("PATH", format!("{}:{path}:/usr/sbin", programs().display()));
    // The session's daemon, sockets and settings are this folder's; it has no settings.
    shell.env("XDG_RUNTIME_DIR", dir).env("XDG_CONFIG_HOME", dir.join("session"));
    shell.env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
    let log = fs::File::create(dir.join("said")).unwrap();
    shell.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let status = shell.status().unwrap();
    let said = String::from_utf8_lossy(&fs::read(dir.join("said")).unwrap()).into_owned();
    println!("{said}");
    assert!(status.success(), "{status}");
    said
}
