//! Owns what a C programmer does with the package: install it, compile against it, run what came of
//! it.
//!
//! The package is installed by the Makefile's own rule, from the libraries that cargo has built for
//! these tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// Where the package is installed, below the toolbox.
const PREFIX: &str = "/opt/resized";

/// A program that takes longer hangs.
const SECONDS: &str = "300";

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Linked {
    Dynamically,
    Statically,
}

/// The package, installed, and a place for programs.
pub(crate) struct Toolbox {
    root: PathBuf,
}

impl Toolbox {
    /// The one of all tests.
    pub(crate) fn shared() -> &'static Self {
        static TOOLBOX: OnceLock<Toolbox> = OnceLock::new();
        TOOLBOX.get_or_init(Self::install)
    }

    fn install() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        // The list of notices is another package's to make.
        let pages = root.join("pages");
        fs::create_dir(&pages).unwrap();
        fs::write(pages.join("third-parties.txt"), "").unwrap();
        // Cargo leaves them beside the tests that it builds them for.
        let test = std::env::current_exe().unwrap();
        let libraries = test.parent().unwrap();
        let mut make = Command::new("make");
        // It may be a make that runs these tests: its flags are not for this one.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("MAKELEVEL");
        make.args(["-s", "-C", &format!("{CRATE}/../.."), "install-library"])
            .arg(format!("prefix={PREFIX}"))
            .arg(format!("DESTDIR={}", root.display()))
            .arg(format!("PAGES={}", pages.display()))
            .arg(format!("LIBRARIES={}", libraries.display()));
        good(&mut make);
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the installed package.
    pub(crate) fn installed(&self, path: &str) -> PathBuf {
        self.root.join(&PREFIX[1..]).join(path)
    }

    /// What pkg-config says, word by word.
    pub(crate) fn pkg_config(&self, question: &[&str]) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command
            .env("PKG_CONFIG_SYSROOT_DIR", &self.root)
            .env("PKG_CONFIG_LIBDIR", self.installed("lib/pkgconfig"))
            .env_remove("PKG_CONFIG_PATH")
            .args(question)
            .arg("resized");
        good(&mut command).split_whitespace().map(str::to_owned).collect()
    }

    /// Compiles a program of this crate, as its user would, into one of that name.
    pub(crate) fn compile(&self, source: &Path, name: &str, linked: Linked) -> PathBuf {
        let program = self.root.join(name);
        let mut command = match source.extension().and_then(|extension| extension.to_str()) {
            Some("cpp") => compiler("g++", "-std=c++17"),
            _ => compiler("cc", "-std=c11"),
        };
        command.args(self.pkg_config(&["--cflags"])).arg(source).arg("-o").arg(&program);
        match linked {
            Linked::Dynamically => {
                let libraries = self.installed("lib");
                command.args(self.pkg_config(&["--libs"]));
                command.arg(format!("-Wl,-rpath,{}", libraries.display()));
            }
            Linked::Statically => {
                let words = self.pkg_config(&["--static", "--libs"]);
                let archive = |word: String| match word.as_str() {
                    "-lresized" => "-l:libresized.a".to_owned(),
                    _ => word,
                };
                command.args(words.into_iter().map(archive));
            }
        }
        good(&mut command);
        program
    }

    /// A program of tests/c.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let source = Path::new(CRATE).join("tests/c").join(name).with_extension("c");
        self.compile(&source, name, Linked::Dynamically)
    }
}

fn compiler(program: &str, standard: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(standard).args(WARNINGS);
    command
}

/// What valgrind counts as a leak.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaks {
    /// Every byte that is left at the end.
    All,
    /// What nothing points to any more: a bridge's thread may still be ending.
    Lost,
}

/// The program, on valgrind.
pub(crate) fn watched(program: &Path, leaks: Leaks) -> Command {
    let kinds = match leaks {
        Leaks::All => "all",
        Leaks::Lost => "definite,indirect",
    };
    let mut command = Command::new("timeout");
    command
        .args([SECONDS, "valgrind", "--quiet", "--error-exitcode=99", "--fair-sched=yes"])
        .args(["--leak-check=full", &format!("--show-leak-kinds={kinds}")])
        .arg(format!("--errors-for-leak-kinds={kinds}"))
        .arg(program)
        .env_remove("RESIZED_ENDPOINT");
    command
}

/// Runs it, and it must succeed without a word of complaint. What it said.
#[track_caller]
pub(crate) fn good(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_good(command, &output);
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub(crate) fn assert_good(command: &Command, output: &Output) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaint.is_empty(),
        "{command:?}: {output:?}\n{complaint}"
    );
}
