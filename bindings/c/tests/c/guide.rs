//! The guide's programs and commands, as they stand in it.

use std::fs;
use std::process::Command;

use crate::service::{Service, endpoint, socket};
use crate::toolbox::{Leaks, Linked, Toolbox, assert_good, good, watched};

const GUIDE: &str = include_str!("../../../../docs/c.md");

/// What is between the fences of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    GUIDE.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_program_compiles_by_the_command_and_runs() {
    let toolbox = Toolbox::shared();
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(dir.path());
    let _daemon = Service::daemon(&socket);
    let [program] = blocks("c")[..] else { panic!("one program") };
    let source = dir.path().join("camera.c");
    fs::write(&source, program).unwrap();
    let program = toolbox.compile(&source, "guide", Linked::Dynamically);
    let mut command = watched(&program, Leaks::All);
    let output = command.env("RESIZED_ENDPOINT", endpoint(&socket)).output().unwrap();
    assert_good(&command, &output);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3, "{output:?}");

    // The first installs the library, as the toolbox has done.
    let [_, command] = blocks("sh")[..] else { panic!("two commands") };
    let pkg_config_libdir = toolbox.installed("lib/pkgconfig");
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", command]).current_dir(dir.path());
    shell.env("PKG_CONFIG_LIBDIR", pkg_config_libdir).env("PKG_CONFIG_SYSROOT_DIR", toolbox.root());
    shell.env("LD_LIBRARY_PATH", toolbox.installed("lib"));
    good(shell.env("RESIZED_ENDPOINT", endpoint(&socket)));
    assert!(dir.path().join("camera").exists());
}

#[test]
fn every_function_and_status_that_is_named_is_there() {
    let header = fs::read_to_string(crate::header::PATH).unwrap();
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let named = GUIDE.split(|character| !word(character));
    let named: Vec<_> = named.filter(|name| name.to_lowercase().starts_with("resized_")).collect();
    assert!(named.len() > 20);
    for name in named {
        let known = header.split(|character| !word(character)).any(|known| known == name);
        assert!(known || name == "RESIZED_ENDPOINT", "{name} is not in the header");
    }
}
