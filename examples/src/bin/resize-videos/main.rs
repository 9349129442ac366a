//! Resizes videos through the `resized` daemon, frame by frame, several copies at once, and says how
//! fast that was.
//!
//! The walk of a frame: [`decode`] takes it from the video's [`source`], whose [`container`] says how it
//! is shown, straight into a slot where [`inplace`] can; else [`picture`] converts it if it must, and
//! copies it into one. [`instance`] submits the slot, once there is [`room`], and waits for it; [`jpeg`]
//! makes a file of what came back, upright by [`turn`] and in its [`shape`], in its [`folder`]. [`notes`]
//! keeps how long it took, [`devices`] who did it, [`outcome`] what became of its instance. [`progress`],
//! on its [`screen`], [`report`] and [`page`] tell the user; [`stop`] ends it early.
//!
//! What any program of this kind does, from errors to files in the making, is `resizectl`'s.

mod args;
mod container;
mod daemon;
mod decode;
mod devices;
mod folder;
mod inplace;
mod instance;
mod jpeg;
mod names;
mod notes;
mod outcome;
mod page;
mod picture;
mod progress;
mod report;
mod room;
mod screen;
mod shape;
mod source;
mod stop;
mod turn;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use resizectl::aside::Aside;
use resizectl::terminal::{advice, one_line, shown};

use crate::args::Args;
use crate::daemon::Daemon;
use crate::decode::File;
use crate::folder::Folder;
use crate::outcome::{End, Outcome};
use crate::page::{Head, Page, Seen};
use crate::progress::{Progress, complain, labels};
use crate::report::Report;
use crate::shape::Shape;
use crate::stop::{Reason, Stop};

/// Its files in the making.
const ASIDE: Aside = Aside::of("resize-videos");

fn main() -> ExitCode {
    let args = Args::parse();
    run(&args).unwrap_or_else(|error| {
        complain(&(one_line(&error) + &advice(&error, args.connect.as_ref())));
        ExitCode::FAILURE
    })
}

/// Each instance has a video, a connection and a ring open. Where the limit stays, many videos may
/// be too many.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let _ = limit.and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
}

/// Opens a video. What is wrong with it is said at once, and given back in words; none if the run
/// ended before that was known.
fn open(
    video: &Path,
    shape: Shape,
    progress: &Progress,
    stop: &Arc<Stop>,
) -> Result<File, Option<String>> {
    let opened = File::open(video, stop).and_then(|file| {
        shape.check(file.extent(), file.aspect())?;
        Ok(file)
    });
    opened.map_err(|error| {
        let (name, why) = (video.display(), one_line(&error));
        (!stop.is_set()).then(|| {
            progress.complain(&format!("{name}: {why}"));
            why
        })
    })
}

/// What the page says of a video that could be opened.
fn head(file: &File, shape: Shape) -> Head {
    let (codec, extent) = (file.codec(), file.extent());
    Head { codec, extent, pictures: shape.picture(extent, file.aspect()) }
}

/// How the page calls a video.
fn name(video: &Path) -> String {
    video.file_name().unwrap_or(video.as_os_str()).to_string_lossy().into_owned()
}

/// Fails if the figures or the report could not be written at the end.
fn check_writable(args: &Args) -> Result<()> {
    if let (Some(json), Some(page)) = (&args.json, &args.report) {
        let same = report::is_same(json, page);
        ensure!(!same, "{} can't be both the figures and the report", page.display());
    }
    let mut paths = args.json.iter().chain(&args.report);
    paths.try_for_each(|path| report::check_writable(path, &args.videos))
}

/// Deals the videos out to the instances: those that can begin, and what became of those whose video was
/// found wrong.
fn deal<'a>(
    videos: &'a [PathBuf],
    heads: &[Result<Head, Option<String>>],
    instances: usize,
) -> Result<(Vec<usize>, Vec<Outcome<'a>>)> {
    let (mut able, mut outcomes) = (Vec::new(), Vec::new());
    let dealt = videos.iter().zip(heads).cycle();
    for (instance, (video, head)) in (1..=instances).zip(dealt) {
        match head {
            Ok(_) => able.push(instance),
            Err(Some(why)) => {
                let end = End::Failed(why.clone());
                outcomes.push(Outcome::new(instance, video, end, Duration::ZERO)?);
            }
            Err(None) => {}
        }
    }
    Ok((able, outcomes))
}

/// Resizes the videos, and tells what became of them. Fails where nothing can begin.
fn run(args: &Args) -> Result<ExitCode> {
    raise_descriptor_limit();
    let stop = Arc::new(Stop::on_signals()?);
    decode::init()?;

    // What can be found out is found out now, before anything is made or removed.
    let (instances, shape) = (args.instances()?, args.shape()?);
    let progress = Progress::new(args.quiet, stop.signal(), labels(&args.videos, instances));
    let (mut heads, mut files, mut slanted) = (Vec::new(), Vec::new(), Vec::new());
    for video in &args.videos {
        let file = open(video, shape, &progress, &stop);
        heads.push(file.as_ref().map(|file| head(file, shape)).map_err(Clone::clone));
        slanted.extend(file.as_ref().ok().filter(|file| file.turn().is_none()).map(|_| video));
        // Its turn may be far off, and meanwhile it would take memory and a server's patience.
        let is_first = files.iter().all(Option::is_none);
        files.push(file.ok().filter(|_| is_first || !args::is_there_again(video)));
    }
    let (daemon, greeting) = Daemon::find(args.connect.as_ref(), &stop)?;
    let (mut able, mut outcomes) = deal(&args.videos, &heads, instances)?;
    // What is wrong with all of them was said, and nothing else happened.
    let idle = able.is_empty() && !stop.is_set();
    if stop.is_set() {
        able.clear(); // none will begin
    }
    // The figures and the report may go where the pictures go.
    let check = || check_writable(args);
    let (folders, _locks) = Folder::prepare(&args.output, &args.videos, &able, check)?;

    if let Some(greeting) = greeting.filter(|_| !idle) {
        progress.say(&greeting);
    }
    for video in slanted {
        let name = shown(&video.display().to_string());
        progress
            .say(&format!("{name} asks to be shown at a slant: its pictures are left as they are"));
    }
    let seen =
        |(video, head): (&PathBuf, Result<Head, _>)| Seen { name: name(video), head: head.ok() };
    let seen: Vec<_> = args.videos.iter().zip(heads).map(seen).collect();
    let look = || args.report.as_ref().and_then(|_| daemon.look(&stop));
    let before = look();
    outcomes.extend(instance::run_all(args, shape, &daemon, files, folders, &progress, &stop));
    outcomes.sort_by_key(|outcome| outcome.instance);
    let after = if stop.is_forsaken() { None } else { look() };
    let stopped = stop.reason();
    let report = Report::new(&outcomes, stopped.as_ref());
    let page = Page {
        args,
        shape,
        videos: &seen,
        outcomes: &outcomes,
        instances,
        took: report.took(),
        frames: report.frames(),
        daemon: &daemon.place(),
        devices: &report.shares(before.as_ref(), after.as_ref()),
        stopped: stopped.as_ref(),
    };
    if !idle {
        progress.say(&report.table());
    }
    Ok(conclude(&report, &page, &progress))
}

/// Tells what became of a run in all the ways that were asked for, and whether all went well.
fn conclude(report: &Report<'_>, page: &Page<'_>, progress: &Progress) -> ExitCode {
    let Page { args, outcomes, stopped, .. } = *page;
    let written = || outcomes.iter().filter(|outcome| outcome.frames > 0);
    if let (Some(first), Some(last)) = (written().next(), written().next_back()) {
        progress.say(&shown(&Folder::range(&args.output, first, last)));
    }
    // Each of both, even where the other can't be written.
    let json = args.json.as_ref().map_or(Ok(()), |path| report::write(path, &report.json()?));
    let html = args.report.as_ref().map_or(Ok(()), |path| {
        report::write(path, &page.html()?)?;
        progress.say(&format!("the report is {}", path.display()));
        Ok(())
    });
    let failure = match stopped {
        Some(Reason::Error(why)) => Some(why.clone()),
        Some(Reason::Signal(_)) | None => None,
    };
    let unwritten = [json, html].into_iter().filter_map(Result::err);
    let wrong: Vec<_> =
        failure.into_iter().chain(unwritten.map(|error| one_line(&error))).collect();
    wrong.iter().for_each(|what| progress.complain(what));
    let failed = outcomes.iter().any(|outcome| matches!(outcome.end, End::Failed(_)));
    match stopped {
        _ if !wrong.is_empty() => ExitCode::FAILURE,
        Some(Reason::Signal(signal)) => ExitCode::from(128 + signal),
        _ if failed => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
