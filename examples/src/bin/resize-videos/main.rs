//! Resizes videos through the `resized` daemon, frame by frame, several copies at once, and says how
//! fast that was.
//!
//! The walk of a frame: [`decode`] takes it from the video, straight into a slot where [`inplace`]
//! can; else [`picture`] converts it if it must, and copies it into one. [`instance`] submits the
//! slot, once there is [`room`], and waits for it; [`jpeg`] makes a file of what came back, upright
//! by [`turn`], in its [`folder`]. [`notes`] keeps how long it took. [`progress`], [`report`] and
//! [`page`] tell the user; [`stop`] ends it early.

mod args;
mod aside;
mod daemon;
mod decode;
mod folder;
mod inplace;
mod instance;
mod jpeg;
mod names;
mod notes;
mod page;
mod picture;
mod progress;
mod report;
mod room;
mod stop;
mod turn;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::args::{Args, Size};
use crate::daemon::Daemon;
use crate::decode::File;
use crate::folder::Folder;
use crate::page::{Page, Seen};
use crate::progress::{Progress, shown};
use crate::report::Report;
use crate::stop::Stop;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Whoever would have read it may be gone.
            let _ = writeln!(io::stderr(), "resize-videos: {}", shown(&one_line(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, but for those that the error before has quoted already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        match (line.is_empty(), line.ends_with(&cause)) {
            (true, _) => cause,
            (false, true) => line,
            (false, false) => format!("{line}: {cause}"),
        }
    })
}

/// What the page says of a video.
fn seen(file: &File, size: Size) -> Seen {
    let path = file.path();
    Seen {
        name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        codec: file.codec(),
        extent: file.extent(),
        pictures: size.of(file.extent(), file.aspect()),
    }
}

/// Each instance has a video, a connection and a ring open. Where the limit stays, many videos may
/// be too many.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let _ = limit.and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
}

fn run(args: &Args) -> Result<ExitCode> {
    raise_descriptor_limit();
    let stop = Stop::on_signals()?;
    decode::init()?;

    // What can be found out is found out now, before anything is made or removed.
    let instances = args.instances()?;
    let files = args.videos.iter().map(|video| File::open(video)).collect::<Result<Vec<_>>>()?;
    for file in &files {
        let fits = args.size.check(file.extent(), file.aspect());
        fits.with_context(|| file.path().display().to_string())?;
    }
    let (daemon, greeting) = Daemon::find(args.connect.as_ref())?;
    // Which may be where the figures and the report go.
    let check = || {
        if let (Some(json), Some(page)) = (&args.json, &args.report) {
            let same = report::is_same(json, page);
            ensure!(!same, "{} can't be both the figures and the report", page.display());
        }
        let mut paths = args.json.iter().chain(&args.report);
        paths.try_for_each(|path| report::check_writable(path, &args.videos))
    };
    let (folders, _locks) = Folder::prepare(&args.output, &args.videos, instances, check)?;

    let progress = Progress::new(args.quiet);
    progress.say(&greeting);
    for file in files.iter().filter(|file| file.turn().is_none()) {
        let name = file.path().display().to_string();
        progress.say(&format!(
            "{} asks to be shown at a slant: its pictures are left as they are",
            shown(&name)
        ));
    }
    let seen: Vec<_> = files.iter().map(|file| seen(file, args.size)).collect();
    let look = || args.report.as_ref().and_then(|_| daemon.look());
    let before = look();
    let outcomes = instance::run_all(args, &daemon, files, folders, &progress, &stop);
    let after = look();
    stop.check()?;
    let report = Report::new(&outcomes);
    progress.say(&report.table());
    // Fewer than were asked for, if it was interrupted.
    let began = outcomes.iter().map(|outcome| outcome.instance).max().unwrap_or(instances);
    progress.say(&format!("the pictures are in {}", Folder::range(&args.output, began)));
    if let Some(path) = &args.json {
        report::write(path, &report.json()?)?;
    }
    if let Some(path) = &args.report {
        let page = Page {
            args,
            videos: &seen,
            outcomes: &outcomes,
            instances,
            took: report.took(),
            frames: report.frames(),
            daemon: &daemon.place(),
            devices: &report.shares(before.as_ref(), after.as_ref()),
            stopped: stop.signal().is_some(),
        };
        report::write(path, &page.html()?)?;
        progress.say(&format!("the report is {}", path.display()));
    }
    Ok(stop.signal().map_or(ExitCode::SUCCESS, |signal| ExitCode::from(128 + signal)))
}
