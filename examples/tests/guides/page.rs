//! Owns how a page is read: its blocks, the commands in these, and which of them are not run.

use std::fs;
use std::path::Path;

/// The working tree.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Commands that are not run here, and why. Each is on a page.
pub(crate) const NOT_RUN: &[(&str, &str)] = &[
    ("make demo", "a whole build; its programs' own tests do what it shows"),
    (
        "target/release/resizectl resize /tmp/vid-instance1/Frame00001.jpg -s 320x180 -o small/",
        "a whole build; the page does it again with what is in the PATH",
    ),
    ("make build", "a whole build"),
    ("make build pages", "a whole build"),
    ("make deb MAINTAINER=\"Your Name <you@example.org>\"", "a whole build"),
    ("sudo apt install ./target/debian/resized_*.deb ./target/debian/resize-videos_*.deb", "root"),
    ("sudo make install prefix=/usr", "root"),
    ("sudo ldconfig && sudo systemd-sysusers && sudo systemd-tmpfiles --create", "root"),
    ("sudo systemctl enable --now resized.socket", "root and systemd"),
    (
        "sudo systemctl daemon-reload && sudo systemctl enable --now resized.socket",
        "root and systemd",
    ),
    (
        "sudo systemctl disable --now resized.socket resized.service resized-bridge.service",
        "root and systemd",
    ),
    ("sudo make uninstall prefix=/usr", "root"),
    ("sudo systemctl daemon-reload", "root and systemd"),
    ("sudo systemctl try-restart resized.service resized-bridge.service", "root and systemd"),
    ("sudo systemctl reload resized", "root and systemd"),
    ("sudo install -m 600 cert.pem /etc/resized/bridge/certificate.pem", "root"),
    ("sudo install -m 600 key.pem /etc/resized/bridge/key.pem", "root"),
    ("sudo install -m 600 token /etc/resized/bridge/token", "root"),
    ("sudo systemctl enable --now resized-bridge", "root and systemd"),
    ("journalctl -u resized-bridge", "systemd"),
    ("sudo usermod -aG resized alice", "root, and a user"),
    ("resizectl top", "a terminal, until somebody has seen enough; resizectl's tests look at it"),
    (
        "podman run --rm --volume /run/resized:/run/resized --group-add keep-groups IMAGE resizectl status",
        "an image, and the service",
    ),
    (
        "sudo docker run --rm --volume /run/resized:/run/resized --user 1000 \
         --group-add \"$(getent group resized | cut -d: -f3)\" IMAGE resizectl status",
        "root, an image, and the service",
    ),
    ("make wheel", "a whole build"),
    ("python3 -m venv venv", "of no use without the wheel; make test-wheel does it"),
    ("venv/bin/pip install target/wheels/resized-*.whl", "the network; make test-wheel does it"),
    (
        "nats request resized.picture --header Size:640x360 --raw --no-templates < photo.jpg > small.jpg",
        "no Debian package has it; `picture` asks for the same",
    ),
    (
        "cc -std=c11 camera.c -o camera $(pkg-config --cflags --libs resized)",
        "bindings/c/tests runs it",
    ),
    ("./camera", "bindings/c/tests runs it"),
    (
        "make build notices install-library prefix=$HOME/resized",
        "a whole build; bindings/c/tests installs it",
    ),
    ("export PKG_CONFIG_PATH=$HOME/resized/lib/pkgconfig", "of no use without the library"),
    ("export LD_LIBRARY_PATH=$HOME/resized/lib", "of no use without the library"),
];

/// A page of the documentation.
pub(crate) struct Page {
    /// Below the working tree.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) blocks: Vec<Block>,
}

/// What stands between fences.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    /// That of its first fence.
    pub(crate) line: usize,
}

impl Page {
    /// README.md and all of docs.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        // Not the pages of the design, which have no commands of their own.
        let guides = entries.map(Result::unwrap).filter(|entry| entry.path().is_file());
        let names = guides.map(|entry| format!("docs/{}", name(entry)));
        names.chain(["README.md".to_owned()]).map(|name| Self::read(&name)).collect()
    }

    pub(crate) fn read(name: &str) -> Self {
        let text = fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_inside = false;
        for (index, line) in text.lines().enumerate() {
            match (line.strip_prefix("```"), is_inside) {
                (Some(language), false) => {
                    let (language, text) = (language.to_owned(), String::new());
                    blocks.push(Block { language, text, line: index + 1 });
                    is_inside = true;
                }
                (Some(_), true) => is_inside = false,
                (None, true) => blocks.last_mut().unwrap().text.extend([line, "\n"]),
                // It would be a block, too, of who knows what.
                (None, false) => {
                    assert!(!line.starts_with("    "), "{name}:{}: indented", index + 1)
                }
            }
        }
        assert!(!is_inside, "{name} ends inside a block");
        Self { name: name.to_owned(), text, blocks }
    }

    /// The commands for a shell, without what is said about them.
    pub(crate) fn all_commands(&self) -> Vec<String> {
        let shells = self.blocks.iter().filter(|block| block.language == "sh");
        shells.flat_map(|block| commands(&block.text)).collect()
    }

    /// Those that are run.
    pub(crate) fn commands(&self) -> Vec<String> {
        let is_run = |command: &String| NOT_RUN.iter().all(|(other, _)| other != command);
        self.all_commands().into_iter().filter(is_run).collect()
    }
}

impl Block {
    /// The name of the file that it is, which its first line says.
    pub(crate) fn file(&self) -> Option<&str> {
        let name = self.text.lines().next()?.strip_prefix("# ")?;
        (!name.contains(' ')).then_some(name)
    }
}

/// Where a text's links lead within the repository.
pub(crate) fn links(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    links.filter(|link| !link.is_empty() && !link.contains("://"))
}

/// One a line, unless that ends in a backslash.
fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(|line| {
        let code = match line.find(" #") {
            Some(comment) => &line[..comment],
            None => line,
        };
        code.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}
