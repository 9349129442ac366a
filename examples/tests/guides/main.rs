//! That the documentation is true: its commands are run as they stand there, and each of its
//! snippets is compiled or run by somebody; and that the short programs do what they say.
//!
//! A page's commands are run one after the other by a shell, in a folder of the page's own, with
//! the built programs in the PATH. What can't be run here is listed with the reason
//! ([`page::NOT_RUN`]), and nothing else is left out.

#[path = "../../../bridge/tests/common/broker.rs"]
mod broker;
mod install;
mod page;
mod picture;
#[path = "../../../bridge/tests/common/port.rs"]
mod port;
mod programs;
#[path = "../common/service.rs"]
mod service;
mod shell;
#[path = "../../../daemon/tests/common/skip.rs"]
mod skip;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use page::{Page, ROOT};
use shell::Scratch;

#[test]
fn the_readme() {
    let scratch = Scratch::run("README.md");
    scratch.expect(&[
        "frames/vid-instance2/Frame00010.jpg",
        "report.html",
        "small/photo.jpg",
        "out/00010.jpg",
    ]);
}

#[test]
fn the_administrators_guide() {
    let said = Scratch::run("docs/administrator.md").said;
    // Those that the page has in that file, not the session's.
    assert!(said.contains("/etc/resized/resized.toml)"), "{said}");
    assert!(said.contains("\nresized_sessions "), "{said}");
    // It explains the figures that there are, and no others.
    let Page { text, .. } = Page::read("docs/administrator.md");
    let is_figure = |word: &&str| word.starts_with("resized_") && !word.contains('.');
    let explained: BTreeSet<_> = text.split('`').filter(is_figure).collect();
    let types = said.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert_eq!(explained, types.collect());
}

#[test]
fn the_guide_to_other_machines() {
    let scratch = Scratch::run("docs/remote.md");
    scratch.expect(&[
        "client.pem",
        "out/vid-instance1/Frame00010.jpg",
        "out-of-many/vid-instance1/Frame00010.jpg",
    ]);
}

/// systemd puts the unit's `bridge_` before the name of each file in the folder.
#[test]
fn the_bridge_finds_its_files_where_the_guide_puts_them() {
    let page = Page::read("docs/remote.md");
    let commands = page.all_commands();
    let settings = page.blocks.iter().find(|block| block.file() == Some("/etc/resized/bridge.env"));
    let handed = "/run/credentials/resized-bridge.service/bridge_";
    let mut files = settings.unwrap().text.split(handed).skip(1).peekable();
    assert!(files.peek().is_some());
    for file in files.map(|rest| rest.lines().next().unwrap()) {
        let target = format!(" /etc/resized/bridge/{file}");
        assert!(commands.iter().any(|command| command.ends_with(&target)), "nobody makes{target}");
    }
}

/// Other pages have nothing for a shell here.
#[test]
fn every_page_is_run() {
    let run = ["README.md", "docs/administrator.md", "docs/remote.md", "docs/gstreamer.md"];
    let plugins = Path::new(ROOT).join("bindings/gstreamer/tests/element/launch.rs");
    assert!(fs::read_to_string(plugins).unwrap().contains("/docs/gstreamer.md\""));
    for page in Page::all().into_iter().filter(|page| !run.contains(&page.name.as_str())) {
        assert_eq!(page.commands(), [""; 0], "{} has commands that no test runs", page.name);
    }
}

#[test]
fn every_snippet_is_somebodys() {
    let file = |path: &str| fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let doctests = file("examples/src/lib.rs");
    let python = file("bindings/python/tests/test_docs.py");
    let c = file("bindings/c/tests/c/guide.rs");
    for Page { name, blocks, .. } in Page::all() {
        for block in blocks {
            let is_run = match block.language.as_str() {
                "sh" => true,
                "rust" => doctests.contains(&format!("include_str!(\"../../{name}\")")),
                "python" => python.contains(&name),
                "c" => c.contains(&format!("/{name}\"")),
                // Settings, which this writes for the commands.
                "toml" | "ini" | "conf" => block.file().is_some(),
                _ => false,
            };
            assert!(is_run, "{name}: nobody runs the {} in line {}", block.language, block.line);
        }
    }
}

/// Those within the repository, of the design's pages too.
#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(ROOT);
    let folder = |name: &str| {
        let entries = fs::read_dir(root.join(name)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    };
    let pages = [root.join("README.md"), root.join("DESIGN.md")];
    for page in pages.into_iter().chain(folder("docs")).chain(folder("docs/design")) {
        let text = fs::read_to_string(&page).unwrap();
        for link in page::links(&text) {
            let there = page.parent().unwrap().join(link).exists();
            assert!(there, "{}: {link} is not there", page.display());
        }
    }
}

#[test]
fn what_is_not_run_is_there_and_what_is_made_can_be() {
    let pages = Page::all();
    let commands: Vec<String> = pages.iter().flat_map(Page::all_commands).collect();
    for (command, reason) in page::NOT_RUN {
        assert!(commands.iter().any(|known| known == command), "no page has: {command} ({reason})");
    }
    let makefile = makefile();
    for Page { name, text, .. } in &pages {
        for made in text
            .split(['`', '\n'])
            .filter_map(|part| part.trim_start_matches("sudo ").strip_prefix("make "))
        {
            let targets = made
                .split_whitespace()
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            for target in targets {
                assert!(makefile.contains(&format!("\n{target}:")), "{name}: no make {target}");
            }
        }
    }
}

/// What is made stands in the Makefile's head, group by group, and is made whatever files there are.
#[test]
fn the_makefile_says_what_there_is_to_make() {
    let makefile = makefile();
    let (head, rules) = makefile.split_once("\n\n").unwrap();
    let said: Vec<_> = head
        .lines()
        .filter_map(|line| line.strip_prefix("#   make "))
        .map(|line| line.trim_start().split(' ').next().unwrap())
        .collect();
    let phony = rules.lines().filter_map(|line| line.strip_prefix(".PHONY: "));
    let phony: Vec<_> = phony.flat_map(|line| line.split(' ')).collect();
    for target in &said {
        assert!(phony.contains(target), "{target} is in the head, and there is no such rule");
    }
    // Steps of others.
    let steps = ["build", "deps", "test-deps", "installed-wheel", "writable-settings"];
    let alike = |target: &&str| steps.contains(target) || head.contains(&format!("make {target}"));
    assert_eq!(phony.iter().find(|target| !alike(target)), None, "not in the head");
    let targets = rules.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    for target in targets.filter_map(|line| line.split_once(": ").or(line.split_once(":"))) {
        let name = target.0;
        let is_rule = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(!is_rule || phony.contains(&name), "{name} is not .PHONY");
    }
}

fn makefile() -> String {
    fs::read_to_string(Path::new(ROOT).join("Makefile")).unwrap()
}

/// Flags in code within a line, and names in the environment: programs say that they have them, or
/// the client reads them.
#[test]
fn flags_and_names_are_known() {
    let mut known = [
        "libclient/src/endpoint.rs",
        "libclient/src/remote/credentials.rs",
        "daemon/src/device/vulkan/settings.rs",
    ]
    .map(|path| fs::read_to_string(Path::new(ROOT).join(path)).unwrap())
    .concat();
    for program in [
        "resized",
        "resized-bridge",
        "resize-videos",
        "resizectl resize",
        "resizectl top",
        "resizectl doctor",
    ] {
        known += &shell::help(program);
    }
    let is_known = |name: &str| {
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
        known.split(word).any(|word| word == name)
    };
    // In C names begin so, too: bindings/c/tests looks for those in the header.
    for Page { name, text, .. } in Page::all().into_iter().filter(|page| page.name != "docs/c.md") {
        let flags = text.split('`').filter(|code| code.starts_with("--") && !code.contains('\n'));
        let flags =
            flags.flat_map(|code| code.split_whitespace().filter(|word| word.starts_with("--")));
        let variable = |c: char| !(c.is_ascii_uppercase() || c == '_');
        let variables = text.split(variable).filter(|word| word.starts_with("RESIZED_"));
        for word in flags.chain(variables) {
            assert!(is_known(word), "{name}: nothing knows {word}");
        }
    }
}
