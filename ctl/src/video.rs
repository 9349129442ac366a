//! Owns `resizectl video`: what `resize-videos` is asked for, and where it is found.
//!
//! Parses no video, and links nothing that does: that program takes this one's place.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, ensure};
use resized_client::Endpoint;

use crate::args::Video;
use crate::pattern;
use crate::terminal::VIDEO;

/// The program that does it.
const PROGRAM: &str = "resize-videos";

/// The names of pictures in a folder.
const IN_FOLDERS: &str = "{name}-%05d.jpg";

/// Becomes that program. Returns only if it can't.
pub(crate) fn run(asked: &Video, endpoint: Option<&Endpoint>) -> Result<ExitCode> {
    let program = program();
    let arguments = arguments(asked, endpoint)?;
    let error = Command::new(&program).arg0(VIDEO).args(arguments).exec();
    Err(match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "{PROGRAM} is neither beside this program nor on the PATH: the package of that name has it"
        ),
        _ => anyhow!(error).context(format!("can't run {}", program.display())),
    })
}

/// The one that was installed with this program, else whichever there is.
fn program() -> PathBuf {
    let beside = std::env::current_exe().map(|own| own.with_file_name(PROGRAM));
    beside.ok().filter(|beside| beside.is_file()).unwrap_or_else(|| PROGRAM.into())
}

fn arguments(asked: &Video, endpoint: Option<&Endpoint>) -> Result<Vec<OsString>> {
    let Video {
        inputs,
        size,
        mode,
        pad,
        output,
        every,
        frames,
        filter,
        quality,
        json,
        report,
        quiet,
    } = asked;
    let mut arguments: Vec<OsString> = vec![
        format!("--instances={}", inputs.len()).into(),
        "--interval=0".into(),
        format!("--size={size}").into(),
        option("--output", &pattern(output)?),
        format!("--mode={}", mode.name()).into(),
        format!("--filter={}", filter.name()).into(),
        format!("--quality={quality}").into(),
    ];
    arguments.extend(pad.map(|colour| format!("--pad={colour}").into()));
    arguments.extend((*every != 1).then(|| format!("--every={every}").into()));
    arguments.extend(frames.map(|frames| format!("--frames={frames}").into()));
    arguments.extend(endpoint.map(|endpoint| format!("--connect={endpoint}").into()));
    arguments.extend(json.as_ref().map(|path| option("--json", path.as_os_str())));
    arguments.extend(report.as_ref().map(|path| option("--report", path.as_os_str())));
    arguments.extend(quiet.then(|| "--quiet".into()));
    // Whatever they are called.
    arguments.push("--".into());
    arguments.extend(inputs.iter().map(OsString::from));
    Ok(arguments)
}

fn option(name: &str, value: &OsStr) -> OsString {
    [name.as_ref(), "=".as_ref(), value].into_iter().collect()
}

/// What was asked for, if it is a pattern; the usual one, if it is a folder. What a pattern may be, the
/// program says.
fn pattern(output: &Path) -> Result<OsString> {
    let bytes = output.as_os_str().as_bytes();
    if output.is_dir() || bytes.ends_with(b"/") {
        let has = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
        ensure!(
            !has(pattern::NUMBER) && !has(pattern::NAME),
            "{} is a folder, and in its name {{name}} and {{n}} would be taken for a pattern's: choose another, or write \
             a pattern such as {{name}}/%05d.jpg",
            output.display()
        );
        // A percent sign means itself when there are two.
        let folder: Vec<u8> = bytes
            .iter()
            .flat_map(|&byte| [byte; 2].into_iter().take(1 + usize::from(byte == b'%')))
            .collect();
        return Ok(Path::new(&OsString::from_vec(folder)).join(IN_FOLDERS).into_os_string());
    }
    pattern::check_no_video(output).with_context(|| output.display().to_string())?;
    ensure!(
        bytes.contains(&b'%'),
        "{} is one file: write a pattern such as out/%05d.jpg, or {0}/ for a folder",
        output.display()
    );
    Ok(output.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Arguments;
    use crate::args;

    fn asked(line: &str) -> Result<Vec<String>> {
        let line = ["resizectl", "video"].into_iter().chain(line.split_whitespace());
        let asked = Arguments::try_parse_from(line).unwrap();
        let args::Command::Video(video) = &asked.command else { panic!("another command") };
        let arguments = arguments(video, asked.connect.as_ref())?;
        Ok(arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect())
    }

    #[test]
    fn what_is_asked_for_is_passed_on() {
        let plain = asked("a.mp4 -s 640x360 -o out/%05d.jpg").unwrap();
        let expected = "--instances=1 --interval=0 --size=640x360 --output=out/%05d.jpg --mode=fit \
                        --filter=bicubic --quality=85 -- a.mp4";
        assert_eq!(plain.join(" "), expected);
        let all = "-s -1x360 --mode fit --pad #0A80ff --every 25 --frames 9 -o %d.jpg --filter area --quality 7 --connect unix:/x --json j --report r -q -- -a b";
        let expected = "--instances=2 --interval=0 --size=x360 --output=%d.jpg --mode=fit --filter=area --quality=7 \
                        --pad=0a80ff --every=25 --frames=9 --connect=unix:/x --json=j --report=r --quiet -- -a b";
        assert_eq!(asked(all).unwrap().join(" "), expected);
    }

    #[test]
    fn a_folder_stands_for_a_pattern_in_it() {
        assert_eq!(pattern(Path::new("small/")).unwrap(), "small/{name}-%05d.jpg");
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("100%");
        std::fs::create_dir(&folder).unwrap();
        let expected = format!("{}/100%%/{{name}}-%05d.jpg", dir.path().display());
        assert_eq!(pattern(&folder).unwrap(), expected.as_str());
        let error = pattern(Path::new("{n}/")).unwrap_err().to_string();
        assert!(
            error.starts_with("{n}/ is a folder, and in its name {name} and {n} would"),
            "{error}"
        );
        let error = pattern(Path::new("out.jpg")).unwrap_err().to_string();
        assert_eq!(
            error,
            "out.jpg is one file: write a pattern such as out/%05d.jpg, or out.jpg/ for a folder"
        );
        for output in ["small.mp4", "-"] {
            let error = format!("{:#}", pattern(Path::new(output)).unwrap_err());
            assert!(
                error.starts_with(&format!("{output}: what is written are pictures")),
                "{error}"
            );
        }
        assert_eq!(pattern(Path::new("small.mp4/")).unwrap(), "small.mp4/{name}-%05d.jpg");
    }
}
