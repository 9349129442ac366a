//! `make install` and `make uninstall`, as the administrators' guide has them, but into a folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::page::{Page, ROOT};
use crate::shell;
use crate::skip::skip;

const PROGRAMS: [&str; 4] = ["resize-videos", "resizectl", "resized", "resized-bridge"];

/// Those of resizectl, each of which has a page.
const COMMANDS: [&str; 6] = ["bench", "doctor", "resize", "status", "top", "video"];

/// Beside programs, their pages and completions; below the prefix.
const REST: [&str; 12] = [
    "include/resized.h",
    "lib/libresized.a",
    "lib/libresized.so",
    "lib/libresized.so.0",
    "lib/pkgconfig/resized.pc",
    "lib/systemd/system/resized-bridge.service",
    "lib/systemd/system/resized.service",
    "lib/systemd/system/resized.socket",
    "lib/systemd/user/resized.service",
    "lib/systemd/user/resized.socket",
    "lib/sysusers.d/resized.conf",
    "lib/tmpfiles.d/resized.conf",
];

/// Completions' names, and how flags are marked in them.
const SHELLS: [(&str, &str); 3] = [("*.bash", "--"), ("*.fish", "-l "), ("_*", "--")];

const SETTINGS: [&str; 2] = ["/etc/resized/bridge.env", "/etc/resized/resized.toml"];

/// A folder that stands for `/`, and the pages beside it.
struct Machine {
    root: TempDir,
    pages: TempDir,
}

impl Machine {
    fn new() -> Self {
        let [root, pages] =
            [(); 2].map(|()| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        make_pages(pages.path());
        Self { root, pages }
    }

    /// Runs make, with what cargo has built in place of an optimized build.
    #[track_caller]
    fn make(&self, words: &[String]) {
        let mut make = Command::new("make");
        // It may be a make that runs these tests: its flags are not for this one.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
        make.args(["-s", "-C", ROOT]).args(words);
        let built = shell::programs();
        for (name, path) in [
            ("DESTDIR", self.root.path()),
            ("PAGES", self.pages.path()),
            ("BUILT", &built),
            // There cargo leaves those that it builds for tests.
            ("LIBRARIES", &built.join("deps")),
        ] {
            make.arg(format!("{name}={}", path.display()));
        }
        let output = make.output().unwrap();
        assert!(output.status.success(), "{make:?}: {output:?}");
    }

    /// Where something is that is installed there.
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name.trim_start_matches('/'))
    }

    fn files(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        let mut folders = vec![self.root.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(path),
                    false => {
                        let name = path.strip_prefix(self.root.path()).unwrap();
                        files.insert(format!("/{}", name.display()));
                    }
                }
            }
        }
        files
    }

    /// What each unit starts is there, and systemd understands the units.
    fn check_units(&self, prefix: &str) {
        for manager in ["system", "user"] {
            let folder = self.path(&format!("{prefix}/lib/systemd/{manager}"));
            let units = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let units: Vec<_> = units.collect();
            for unit in &units {
                let text = fs::read_to_string(unit).unwrap();
                let starts = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
                for program in starts.map(|start| start.split(' ').next().unwrap()) {
                    assert!(self.path(program).is_file(), "{} starts {program}", unit.display());
                }
            }
            let mut analyze = Command::new("systemd-analyze");
            analyze.args([&format!("--{manager}"), "--man=no", "verify"]).args(&units);
            // A session's manager has one.
            match analyze.env("XDG_RUNTIME_DIR", self.root.path()).output() {
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    // It looks for the programs below the real /.
                    let elsewhere = "is not executable: No such file or directory";
                    let complaint =
                        |line: &&str| line.contains("resized") && !line.ends_with(elsewhere);
                    assert_eq!(said.lines().find(complaint), None);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    skip("systemd-analyze", "there is no systemd-analyze");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Makes pages and completions as `make pages` does, by what cargo has built for tests.
fn make_pages(folder: &Path) {
    for program in PROGRAMS {
        let made = Command::new(shell::pages_of(program)).arg(folder).output().unwrap();
        assert!(made.status.success(), "{program}: {made:?}");
    }
}

/// All of them: what is made is installed.
fn made_pages() -> Vec<String> {
    let commands = COMMANDS.map(|command| format!("resizectl-{command}.1"));
    let programs = PROGRAMS.iter().flat_map(|program| {
        [
            format!("{program}.1"),
            format!("{program}.bash"),
            format!("{program}.fish"),
            format!("_{program}"),
        ]
    });
    programs.chain(commands).collect()
}

/// All that is installed below that prefix.
fn installed(prefix: &str) -> BTreeSet<String> {
    let place = |name: String| match name.rsplit_once('.') {
        Some((_, "1")) => format!("share/man/man1/{name}"),
        Some((program, "bash")) => format!("share/bash-completion/completions/{program}"),
        Some(_) => format!("share/fish/vendor_completions.d/{name}"),
        None => format!("share/zsh/site-functions/{name}"),
    };
    let below = made_pages().into_iter().map(place);
    let below = below.chain(PROGRAMS.map(|program| format!("bin/{program}")));
    let below = below.chain(REST.map(str::to_owned)).map(|name| format!("{prefix}/{name}"));
    below.chain(SETTINGS.map(str::to_owned)).collect()
}

/// What the Debian packages install, but for what there is to read.
fn packaged() -> BTreeSet<String> {
    let mut packaged = BTreeSet::new();
    for package in ["daemon", "examples"] {
        let manifest = fs::read_to_string(format!("{ROOT}/{package}/Cargo.toml")).unwrap();
        // Each is `["from", "to", "mode"],`.
        for asset in manifest.lines().filter_map(|line| line.strip_prefix("    [\"")) {
            let mut parts = asset.split("\", \"");
            let (from, to) = (parts.next().unwrap(), parts.next().unwrap());
            if to.contains("/doc/") {
                continue;
            }
            let (_, name) = from.rsplit_once('/').unwrap();
            let names = match name.split_once('*') {
                None => vec![name.to_owned()],
                Some((prefix, suffix)) => {
                    let is_meant =
                        |name: &String| name.starts_with(prefix) && name.ends_with(suffix);
                    made_pages().into_iter().filter(is_meant).collect()
                }
            };
            let place =
                |name| if to.ends_with('/') { format!("/{to}{name}") } else { format!("/{to}") };
            packaged.extend(names.into_iter().map(place));
        }
    }
    packaged
}

/// Whether that stands there, and not as the beginning of something longer.
fn has_word(text: &str, word: &str) -> bool {
    let ends = |(at, _): (usize, &str)| {
        !text[at + word.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '-')
    };
    text.match_indices(word).any(ends)
}

/// What comes after `sudo make` in the guide's command of that target.
fn guides(target: &str) -> Vec<String> {
    let commands = Page::read("docs/administrator.md").all_commands();
    let mut commands = commands.iter().filter_map(|command| command.strip_prefix("sudo make "));
    let command = commands.find(|command| command.split(' ').next() == Some(target)).unwrap();
    command.split(' ').map(str::to_owned).collect()
}

#[test]
fn what_the_guide_installs_is_whole_and_it_takes_all_away_but_the_settings() {
    let machine = Machine::new();
    machine.make(&guides("install"));
    assert_eq!(machine.files(), installed("/usr"));
    let mode = |name| machine.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("/usr/bin/resized"), mode("/etc/resized/resized.toml")), (0o755, 0o644));
    // Of the bridge's keys.
    assert_eq!(mode("/etc/resized/bridge"), 0o700);
    machine.check_units("/usr");
    machine.make(&guides("uninstall"));
    assert_eq!(machine.files(), SETTINGS.map(str::to_owned).into());
}

#[test]
fn packages_have_what_make_installs() {
    // Debian has a folder of its own for these.
    let place = |file: String| file.replace("/vendor-completions/_", "/site-functions/_");
    assert_eq!(packaged().into_iter().map(place).collect::<BTreeSet<_>>(), installed("/usr"));
}

#[test]
fn settings_lie_in_etc_whatever_the_prefix_and_stay_as_they_are() {
    let machine = Machine::new();
    let settings = machine.path("/etc/resized/resized.toml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, "memory = 5").unwrap();
    machine.make(&["install", "prefix=/opt/resized"].map(str::to_owned));
    assert_eq!(machine.files(), installed("/opt/resized"));
    assert_eq!(fs::read_to_string(&settings).unwrap(), "memory = 5");
    machine.check_units("/opt/resized");
}

#[test]
fn pages_and_completions_are_those_of_the_programs_and_their_commands() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    make_pages(folder.path());
    let names = fs::read_dir(folder.path()).unwrap();
    let names: BTreeSet<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // Without one for a command that is new, or with one for a command that is gone, they differ.
    assert_eq!(names, made_pages().into_iter().collect());
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();

    for program in PROGRAMS {
        let commands = if program == "resizectl" { &COMMANDS[..] } else { &[] };
        let completions = SHELLS.map(|(shell, flag)| (text(&shell.replace('*', program)), flag));
        for (completion, _) in &completions {
            for command in commands {
                assert!(has_word(completion, command), "{program} {command}: {completion}");
            }
        }
        let commands = commands.iter().map(|command| format!("{program} {command}"));
        for command in commands.chain([program.to_owned()]) {
            let name = command.replace(' ', "-");
            // Hyphens are written with a backslash, so that they are searched for as they are typed.
            let page = text(&format!("{name}.1")).replace("\\-", "-");
            let title = page.lines().find_map(|line| line.strip_prefix(".TH ")).unwrap();
            assert_eq!(title.split(' ').next(), Some(&*name));
            for flag in shell::flags(&command) {
                assert!(has_word(&page, &format!("--{flag}")), "{command} --{flag}: {page}");
                for (completion, mark) in &completions {
                    let flag = format!("{mark}{flag}");
                    assert!(has_word(completion, &flag), "{command} {flag}: {completion}");
                }
            }
        }
    }
}

#[test]
fn settings_that_can_not_be_written_keep_all_from_being_installed() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Where not even root can make a folder.
    fs::write(folder.path().join("etc"), "a file").unwrap();
    let output = Command::new("make")
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("MAKELEVEL")
        .args(["-s", "-C", ROOT, "install"])
        .arg(format!("DESTDIR={}", folder.path().display()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let settings = folder.path().join("etc/resized");
    assert!(said.starts_with(&format!("can't write {}", settings.display())), "{said}");
    assert!(!output.status.success() && said.contains("make install-library"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
