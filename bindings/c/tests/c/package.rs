//! What is installed: the header, the libraries, what pkg-config says of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::header;
use crate::toolbox::{Linked, Toolbox, good};

fn committed() -> String {
    fs::read_to_string(header::PATH).unwrap()
}

#[test]
fn the_header_is_what_cbindgen_makes_of_the_sources() {
    let generated = String::from_utf8(header::generate()).unwrap();
    assert!(generated == committed(), "run: cargo run -p resized-c --example header");
}

#[test]
fn the_header_is_c_and_cpp() {
    let toolbox = Toolbox::shared();
    // Alone, twice, and with calls that link.
    let text = "#include <resized.h>\n#include <resized.h>\n\
        int main() { return resized_slot_release(nullptr) == RESIZED_STATUS_HANDLE ? 0 : 1; }\n";
    for (name, text) in [("header.cpp", text), ("header.c", &text.replace("nullptr", "0"))] {
        let source = toolbox.root().join(name);
        fs::write(&source, text.replace("main()", "main(void)")).unwrap();
        let program = toolbox.compile(&source, &name.replace('.', "-"), Linked::Dynamically);
        good(&mut Command::new(program));
    }
}

/// Names that the header declares as functions.
fn declared() -> BTreeSet<String> {
    let header = committed();
    let (_, header) = header.split_once("*/").unwrap();
    let code: Vec<_> = header.lines().filter(|line| !line.trim().starts_with("//")).collect();
    let code = code.join("\n");
    let functions = code.split(';').filter_map(|statement| statement.split_once('('));
    let names = functions.filter_map(|(before, _)| before.split([' ', '*', '\n']).next_back());
    names.map(str::to_owned).collect()
}

#[test]
fn the_libraries_have_what_the_header_declares_and_nothing_else() {
    let toolbox = Toolbox::shared();
    let declared = declared();
    assert!(declared.contains("resized_connect") && declared.len() > 20, "{declared:?}");
    let shared = toolbox.installed("lib/libresized.so");
    let symbols = good(Command::new("nm").args(["-D", "--defined-only", "-j"]).arg(&shared));
    let symbols: BTreeSet<_> = symbols.lines().map(str::to_owned).collect();
    assert_eq!(symbols, declared);
    let archive = toolbox.installed("lib/libresized.a");
    // It complains of members that have no symbols.
    let listed = Command::new("nm").args(["--defined-only", "-g", "-j"]).arg(archive).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    // Members have names with dots.
    let ours = |line: &&str| line.starts_with("resized_") && !line.contains('.');
    let symbols: BTreeSet<_> = listed.lines().filter(ours).collect();
    assert_eq!(symbols, declared.iter().map(String::as_str).collect());
}

#[test]
fn the_shared_library_is_found_by_its_name_and_stays() {
    let library = Toolbox::shared().installed("lib/libresized.so");
    assert_eq!(fs::read_link(&library).unwrap(), Path::new("libresized.so.0"));
    let dynamic = good(Command::new("readelf").args(["-dW"]).arg(library));
    let soname = dynamic.lines().find(|line| line.contains("(SONAME)")).unwrap();
    assert!(soname.contains("[libresized.so.0]"), "{soname}");
    // Its threads run on when a plugin that linked it is closed.
    let flags = dynamic.lines().find(|line| line.contains("(FLAGS_1)")).unwrap();
    assert!(flags.contains("NODELETE"), "{flags}");
}

#[test]
fn pkg_config_says_where_and_which() {
    let toolbox = Toolbox::shared();
    assert_eq!(toolbox.pkg_config(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let include = format!("-I{}", toolbox.installed("include").display());
    assert_eq!(toolbox.pkg_config(&["--cflags"]), [include]);
    let libraries = format!("-L{}", toolbox.installed("lib").display());
    assert_eq!(toolbox.pkg_config(&["--libs"]), [&libraries, "-lresized"]);
}
