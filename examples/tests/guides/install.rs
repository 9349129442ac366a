//! `make install` and `make uninstall`, as the administrators' guide has them, but into a folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::page::{self, Page, ROOT};
use crate::shell;
use crate::skip::skip;

const PROGRAMS: [&str; 4] = ["resize-videos", "resizectl", "resized", "resized-bridge"];

/// Those of resizectl, each of which has a page.
const COMMANDS: [&str; 6] = ["bench", "doctor", "resize", "status", "top", "video"];

/// Beside programs, their pages and completions; below the prefix.
const REST: [&str; 6] = [
    "share/doc/resized/third-parties.txt",
    "include/resized.h",
    "lib/libresized.a",
    "lib/libresized.so",
    "lib/libresized.so.0",
    "lib/pkgconfig/resized.pc",
];

/// What systemd reads; below one of the folders where it does.
const UNITS: [&str; 7] = [
    "systemd/system/resized-bridge.service",
    "systemd/system/resized.service",
    "systemd/system/resized.socket",
    "systemd/user/resized.service",
    "systemd/user/resized.socket",
    "sysusers.d/resized.conf",
    "tmpfiles.d/resized.conf",
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
        let notices = Command::new(shell::example("third-parties")).arg(pages.path()).output();
        let notices = notices.unwrap();
        assert!(notices.status.success(), "{notices:?}");
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
            let folder = self.path(&format!("{}/systemd/{manager}", units(prefix)));
            let units = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let units: Vec<_> = units.collect();
            for unit in &units {
                let text = fs::read_to_string(unit).unwrap();
                let runs = text.lines().filter_map(|line| {
                    line.strip_prefix("ExecStart=").or(line.strip_prefix("ExecReload="))
                });
                let programs = runs.map(|run| run.split(' ').next().unwrap());
                for program in programs.filter(|program| *program != "/bin/sh") {
                    assert!(self.path(program).is_file(), "{} runs {program}", unit.display());
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
        let made =
            Command::new(shell::example(&format!("{program}-pages"))).arg(folder).output().unwrap();
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

/// Where systemd looks for what a package with that prefix brings: systemd.unit(5), sysusers.d(5), tmpfiles.d(5).
fn units(prefix: &str) -> &'static str {
    if prefix == "/usr" { "/usr/lib" } else { "/usr/local/lib" }
}

/// All that is installed with that prefix.
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
    let below = below.chain(UNITS.map(|name| format!("{}/{name}", units(prefix))));
    below.chain(SETTINGS.map(str::to_owned)).collect()
}

/// A file of the Debian packages.
struct Asset {
    /// As the manifests have it, below this for what make has installed there.
    from: String,
    is_staged: bool,
    /// Its place, without the `/` at the beginning.
    to: String,
    mode: u32,
}

/// Where make installs for them, as the manifests name it.
const STAGE: &str = "target/release/root/";

/// What the Debian packages have, of files below `stage` in place of theirs.
fn packaged(stage: &Path) -> Vec<Asset> {
    let mut packaged = Vec::new();
    for package in ["daemon", "examples"] {
        let folder = Path::new(ROOT).join(package);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        // Each is `["from", "to/", "mode"],`.
        for asset in manifest.lines().filter_map(|line| line.strip_prefix("    [\"")) {
            let parts: Vec<_> = asset.trim_end_matches("\"],").split("\", \"").collect();
            let [from, to, mode] = parts[..] else { panic!("{asset}") };
            assert!(to.ends_with('/'), "{asset}");
            let staged = from.strip_prefix(STAGE);
            let (folder, pattern) = match staged {
                Some(pattern) => (stage, pattern),
                None => (&*folder, from),
            };
            let mut found = Command::new("sh");
            found.args(["-c", "cd \"$1\" && ls -d $2", "sh"]).arg(folder).arg(pattern);
            let found = found.output().unwrap();
            assert!(found.status.success(), "{asset}: {found:?}");
            for from in String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned) {
                let to = format!("{to}{}", from.rsplit('/').next().unwrap());
                let (is_staged, mode) = (staged.is_some(), u32::from_str_radix(mode, 8).unwrap());
                packaged.push(Asset { from, is_staged, to, mode });
            }
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
fn packages_have_what_make_installs_and_as_it_does() {
    let machine = Machine::new();
    machine.make(&["install", "prefix=/usr"].map(str::to_owned));
    let (mut installed, mut places) = (machine.files(), BTreeSet::new());
    let packaged = packaged(machine.root.path());
    for Asset { from, to, mode, .. } in packaged.iter().filter(|asset| asset.is_staged) {
        // Debian has a folder of its own for completions of zsh, and each package one of texts.
        let same = to.replace("/vendor-completions/_", "/site-functions/_");
        assert_eq!(same.replace("/doc/resize-videos/", "/doc/resized/"), *from);
        let file = fs::symlink_metadata(machine.path(from)).unwrap();
        assert!(file.is_symlink() || file.permissions().mode() & 0o777 == *mode, "{from}");
        assert!(places.insert(to), "{to} is in the packages twice");
        installed.remove(&format!("/{from}"));
    }
    assert_eq!(installed, BTreeSet::new());
}

/// What there is to read is at places that its links lead to.
#[test]
fn what_packages_have_to_read_is_whole() {
    let machine = Machine::new();
    machine.make(&["install", "prefix=/usr"].map(str::to_owned));
    let packaged = packaged(machine.root.path());
    let folder = Path::new("usr/share/doc/resized");
    let texts: Vec<_> =
        packaged.iter().filter(|asset| Path::new(&asset.to).starts_with(folder)).collect();
    for page in texts.iter().filter(|asset| asset.to.ends_with(".md")) {
        let text = fs::read_to_string(Path::new(ROOT).join("daemon").join(&page.from)).unwrap();
        for link in page::links(&text) {
            let there = normal(&Path::new(&page.to).parent().unwrap().join(link));
            // The source of the client: it is a crate, and this is no package of crates.
            let is_there = texts.iter().any(|asset| Path::new(&asset.to).starts_with(&there));
            assert!(is_there || there == folder.join("libclient"), "{}: {link}", page.to);
        }
    }
}

/// That path without its `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(normal.pop(), "{}", path.display()),
            part => normal.push(part),
        }
    }
    normal
}

#[test]
fn settings_lie_in_etc_whatever_the_prefix_and_stay_as_they_are() {
    let machine = Machine::new();
    let settings = machine.path("/etc/resized/resized.toml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, "memory = 5").unwrap();
    machine.make(&["install", "prefix=/opt/resized"].map(str::to_owned));
    // And units where systemd looks for them.
    assert_eq!(machine.files(), installed("/opt/resized"));
    assert_eq!(fs::read_to_string(&settings).unwrap(), "memory = 5");
    machine.check_units("/opt/resized");
}

#[test]
fn the_library_goes_where_the_system_looks() {
    let machine = Machine::new();
    machine.make(&["install-library", "prefix=/usr", "libdir=/usr/lib64"].map(str::to_owned));
    let names = ["libresized.a", "libresized.so", "libresized.so.0", "pkgconfig/resized.pc"];
    let library = names.map(|name| format!("/usr/lib64/{name}"));
    let rest = ["include/resized.h", "share/doc/resized/third-parties.txt"];
    let all = library.into_iter().chain(rest.map(|name| format!("/usr/{name}")));
    assert_eq!(machine.files(), all.collect());
    let pc = fs::read_to_string(machine.path("/usr/lib64/pkgconfig/resized.pc")).unwrap();
    assert!(pc.starts_with("prefix=/usr\nlibdir=${prefix}/lib64\n"), "{pc}");
    machine.make(&["uninstall", "prefix=/usr", "libdir=/usr/lib64"].map(str::to_owned));
    assert_eq!(machine.files(), BTreeSet::new());
}

/// Cargo is asked for them in another way.
#[test]
fn notices_name_all_whose_work_is_in_what_users_get() {
    let machine = Machine::new();
    let notices = fs::read_to_string(machine.pages.path().join("third-parties.txt")).unwrap();
    for part in ["Independent JPEG Group", "libjpeg-turbo Project nor the names", "MIT License"] {
        assert!(notices.contains(part), "{part}");
    }
    let programs = ["resized", "resized-bridge", "resizectl", "resized-examples"];
    let libraries = ["resized-c", "resized-python"].map(|name| (".", name));
    let all = programs.map(|name| (".", name)).into_iter().chain(libraries);
    for (folder, package) in all.chain([("bindings/gstreamer", "gst-plugin-resized")]) {
        let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        tree.args(["tree", "--locked", "--prefix=none", "--format={p}"]);
        tree.args(["--edges=normal,no-proc-macro", "-p", package]);
        let tree = tree.current_dir(Path::new(ROOT).join(folder)).output().unwrap();
        assert!(tree.status.success(), "{tree:?}");
        let tree = String::from_utf8(tree.stdout).unwrap();
        // Ours have a path, too.
        for line in tree.lines().filter(|line| !line.is_empty() && !line.contains(" (/")) {
            let (name, version) = line.split_once(" v").unwrap();
            let version = version.split(' ').next().unwrap();
            assert!(notices.contains(&format!("\n{name} {version}, ")), "{package}: {line}");
        }
    }
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
