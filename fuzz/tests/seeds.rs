//! The files that fuzzing starts from are what the programs say today, and each is taken by its
//! target: built without the fuzzer's switches, that runs what it is given and ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// All files by target and name.
fn files(seeds: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries(seeds).flat_map(|target| entries(&target).collect::<Vec<_>>());
    files
        .map(|file| (file.strip_prefix(seeds).unwrap().to_owned(), fs::read(file).unwrap()))
        .collect()
}

#[test]
fn what_the_programs_say_today_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_seeds")).arg(dir.path()).status().unwrap();
    assert!(status.success());
    let (today, committed) = (files(dir.path()), files(&committed()));
    let others = today.iter().filter(|(name, file)| committed.get(*name) != Some(file));
    let others: Vec<_> = others.map(|(name, _)| name).collect();
    assert!(others.is_empty(), "they are others now: make seeds, and commit them: {others:?}");
    let gone: Vec<_> = committed.keys().filter(|name| !today.contains_key(*name)).collect();
    assert!(gone.is_empty(), "nobody writes them any more: {gone:?}");
}

#[test]
fn each_target_takes_its_seeds() {
    let targets = [
        ("answers", env!("CARGO_BIN_EXE_answers")),
        ("codec", env!("CARGO_BIN_EXE_codec")),
        ("frames", env!("CARGO_BIN_EXE_frames")),
        ("pictures", env!("CARGO_BIN_EXE_pictures")),
        ("session", env!("CARGO_BIN_EXE_session")),
        ("wire", env!("CARGO_BIN_EXE_wire")),
    ];
    for (target, program) in targets {
        let seeds = fs::read_dir(committed().join(target)).unwrap();
        let seeds: Vec<_> = seeds.map(|seed| seed.unwrap().path()).collect();
        // Without any it makes up its own, for ever.
        assert!(!seeds.is_empty(), "{target} has no seeds");
        // What it fails at it writes where it runs.
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.arg("-timeout=60").args(seeds).current_dir(&dir);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{target}: {}", String::from_utf8_lossy(&out.stderr));
    }
}
