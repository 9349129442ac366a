//! Writes what all programs, libraries and modules that users get are made of beside our own sources, on which terms, and the notices
//! that binaries are to come with: `cargo run -p resized-examples --example third-parties -- FOLDER`.
//!
//! Asks cargo, so it is what Cargo.lock says today. Not named are crates that only build, and what is linked at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The packages of all that users get, by the workspace that locks what is in them; from this package's folder.
const OURS: [(&str, &[&str]); 2] = [
    (
        "../Cargo.toml",
        &[
            "resized",
            "resized-bridge",
            "resizectl",
            "resized-examples",
            "resized-c",
            "resized-python",
        ],
    ),
    ("../bindings/gstreamer/Cargo.toml", &["gst-plugin-resized"]),
];

const HEAD: &str = "\
resized's programs and libraries contain the following work of others: crates, each with its version and licence, and then the
notices of these. Where a crate may be had under MIT or other terms, its notice for MIT stands here.

This software is based in part on the work of the Independent JPEG Group.

Rust's standard library, MIT OR Apache-2.0: copyright The Rust Project Developers, see https://www.rust-lang.org
";

/// What a licence's file may begin with.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// C that a crate brings along.
const INSIDE: [(&str, &[&str]); 1] =
    [("turbojpeg-sys", &["libjpeg-turbo/LICENSE.md", "libjpeg-turbo/README.ijg"])];

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("which folder?")?;
    fs::create_dir_all(&folder)?;
    // By their text, in the order of the first of those who have it.
    let (mut list, mut notices) = (String::new(), Vec::<(String, Vec<String>)>::new());
    let mut packages = BTreeMap::new();
    for (manifest, ours) in OURS {
        let named =
            |package: Value| (["name", "version"].map(|key| package[key].to_string()), package);
        packages.extend(others(manifest, ours)?.into_iter().map(named));
    }
    for package in packages.into_values() {
        let text = |name| package[name].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("version"));
        list += &format!("{name}, {}: {}\n", text("license"), text("repository"));
        for file in files(&package)? {
            let notice = fs::read(&file).with_context(|| file.display().to_string())?;
            let notice = String::from_utf8_lossy(&notice).trim_end().replace('\r', "");
            match notices.iter_mut().find(|(known, _)| *known == notice) {
                Some((_, names)) => names.push(name.clone()),
                None => notices.push((notice, vec![name.clone()])),
            }
        }
    }
    let mut text = format!("{HEAD}{list}");
    for (notice, names) in notices {
        text += &format!("\n{}\n{}:\n\n{notice}\n", "-".repeat(80), names.join(", "));
    }
    fs::write(Path::new(&folder).join("third-parties.txt"), text)?;
    Ok(())
}

/// The crates of others that are linked into these of ours, as cargo describes them.
fn others(manifest: &str, ours: &[&str]) -> Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--locked", "--format-version=1", "--filter-platform"]);
    metadata.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
    metadata.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest));
    let output = metadata.output()?;
    ensure!(output.status.success(), "{metadata:?}: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let by_id = |list: &Value| -> BTreeMap<String, Value> {
        let list = list.as_array().into_iter().flatten();
        list.map(|one| (one["id"].as_str().unwrap_or_default().to_owned(), one.clone())).collect()
    };
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);

    let is_ours = |package: &Value| ours.iter().any(|name| package["name"] == *name);
    let named = packages.iter().filter(|(_, package)| is_ours(package)).map(|(id, _)| id.as_str());
    let mut found: BTreeSet<&str> = named.collect();
    ensure!(found.len() == ours.len(), "one of ours is gone: {ours:?}");
    let mut unseen: Vec<&str> = found.iter().copied().collect();
    while let Some(id) = unseen.pop() {
        for dependency in nodes[id]["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array();
            let is_linked = kinds.into_iter().flatten().any(|kind| kind["kind"].is_null());
            let other = dependency["pkg"].as_str().unwrap_or_default();
            let targets = packages[other]["targets"].as_array().into_iter().flatten();
            let runs_in_the_compiler = targets
                .flat_map(|target| target["kind"].as_array())
                .flatten()
                .any(|kind| kind == "proc-macro");
            if is_linked && !runs_in_the_compiler && found.insert(other) {
                unseen.push(other);
            }
        }
    }
    let mut others: Vec<_> = found.into_iter().map(|id| packages[id].clone()).collect();
    others.retain(|package| !package["source"].is_null());
    Ok(others)
}

/// Where its notices are. Some have none: their licence's name is all that they say.
fn files(package: &Value) -> Result<Vec<PathBuf>> {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && NAMES.iter().any(|begin| name.starts_with(begin)) {
            files.push((name, path));
        }
    }
    // One licence is enough where there is a choice.
    if files.iter().any(|(name, _)| name.contains("MIT")) {
        files.retain(|(name, _)| name.contains("MIT"));
    }
    files.sort();
    let inside = INSIDE.iter().filter(|(name, _)| package["name"] == *name);
    let inside = inside.flat_map(|(_, paths)| paths.iter().map(|path| folder.join(path)));
    Ok(files.into_iter().map(|(_, path)| path).chain(inside).collect())
}
