//! Owns the way to the daemon: whether its socket is there, lets this user in, and who answers.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use resized_client::{Client, Endpoint, EndpointError, Reconnect};
use resized_protocol::VERSION;

use super::{Finding, Level, PATIENCE, Place, Report, log_of};

const WHAT: &str = "socket";

const START: &str =
    "start one: sudo systemctl enable --now resized.socket, or 'resized' as yourself";

/// Looks for the daemon: where it is, and a connection if it answers.
pub(super) fn examine(
    endpoint: Option<&Endpoint>,
    report: &mut Report,
) -> Result<(Place, Option<Client>)> {
    let endpoint = match endpoint.cloned().map_or_else(Endpoint::discover, Ok) {
        Ok(endpoint) => endpoint,
        Err(EndpointError::NotFound(paths)) => {
            paths.iter().try_for_each(|path| report.tell(&absent(path)))?;
            return Ok((Place::Inside, None));
        }
        Err(error) => {
            let advice = "correct $RESIZED_ENDPOINT, or unset it";
            report.tell(&Finding::bad(WHAT, error.to_string(), advice))?;
            return Ok((Place::Inside, None));
        }
    };
    let place = match &endpoint {
        Endpoint::Unix(path) => {
            let (finding, pid) = lets_in(path);
            let bad = finding.level == Level::Bad;
            report.tell(&finding)?;
            if bad {
                return Ok((Place::Inside, None));
            }
            Place::Here(pid)
        }
        Endpoint::Remote(_) => Place::Far,
    };
    match Client::connect_with(&endpoint, Reconnect::NEVER) {
        Ok(client) => {
            // Or it would have refused this client.
            let found = format!("answers at {endpoint}, in version {VERSION} of the protocol");
            report.tell(&Finding::good("daemon", found))?;
            Ok((place, Some(client)))
        }
        Err(error) => {
            let (advice, place) = match place {
                Place::Here(daemon) => (log_of(daemon), Place::Inside),
                Place::Inside | Place::Far => {
                    ("see the bridge's log, and whether the network lets you through", place)
                }
            };
            report.tell(&Finding::bad("daemon", error.to_string(), advice))?;
            Ok((place, None))
        }
    }
}

/// Whether a socket lets this user in, and the process of the daemon behind it.
fn lets_in(path: &Path) -> (Finding, Option<u32>) {
    let socket = path.to_owned();
    match super::within(PATIENCE, move || UnixStream::connect(socket)) {
        Ok(Ok(socket)) => {
            let found = format!("{}: lets you in", described(path));
            (Finding::good(WHAT, found), daemon_behind(&socket))
        }
        Ok(Err(error)) => (closed(path, &error), None),
        // More wait already than it has room for.
        Err(error) => {
            let found = format!("{}: {error}", described(path));
            (Finding::bad(WHAT, found, log_of(None)), None)
        }
    }
}

/// Where nobody listens, but somebody could.
fn absent(path: &Path) -> Finding {
    if fs::symlink_metadata(path).is_ok() {
        let found = format!("{}: nobody listens; its daemon has died", described(path));
        return Finding::note(WHAT, found, START);
    }
    let found =
        format!("{}: no daemon; commands that can will use one of their own", path.display());
    Finding::note(WHAT, found, START)
}

/// Why a socket that was named, or is there, can't be connected to.
fn closed(path: &Path, error: &std::io::Error) -> Finding {
    match error.kind() {
        ErrorKind::NotFound => {
            let advice = format!("{START}; at this very path: resized --socket {}", path.display());
            Finding::bad(WHAT, format!("{}: there is none", path.display()), advice)
        }
        ErrorKind::ConnectionRefused => {
            let found = format!("{}: nobody listens; its daemon has died", described(path));
            Finding::bad(WHAT, found, START)
        }
        ErrorKind::PermissionDenied => {
            let (found, advice) = denied(path);
            Finding::bad(WHAT, found, advice)
        }
        _ => Finding::bad(
            WHAT,
            format!("{}: {error}", described(path)),
            "is it the daemon's socket?",
        ),
    }
}

/// What keeps this user out, and how it would get in.
fn denied(path: &Path) -> (String, String) {
    // The first on the way that can't be seen lies in the one that does not let through.
    let hidden = |path: &&Path| {
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    let ancestors: Vec<&Path> = path.ancestors().collect();
    let wall = ancestors.iter().rev().find(|path| hidden(path)).and_then(|path| path.parent());
    let wall = wall.unwrap_or(path).to_path_buf();
    let user = name_of(geteuid());
    let found = format!("{}: does not let {user} in", described(&wall));
    let Ok(file) = fs::metadata(&wall) else { return (found, "ask its owner".to_owned()) };
    let gid = Gid::from_raw(file.gid());
    let group = Group::from_gid(gid).ok().flatten();
    let advice = match group {
        // The group's bits: to search a folder, to write to a socket.
        Some(group) if file.mode() & 0o030 != 0 => {
            if group.mem.contains(&user) {
                format!("you are in the group {} since you logged in: log in again", group.name)
            } else {
                format!("sudo usermod -aG {} {user}, and log in again", group.name)
            }
        }
        _ => "it serves its own user and root; start it with --peers anyone, or use the service"
            .to_owned(),
    };
    (found, advice)
}

/// A file with its mode and owners, as ls has them.
fn described(path: &Path) -> String {
    let Ok(file) = fs::symlink_metadata(path) else { return path.display().to_string() };
    let kind = match file.file_type() {
        kind if kind.is_socket() => "socket",
        kind if kind.is_dir() => "folder",
        _ => "file",
    };
    let group = Group::from_gid(Gid::from_raw(file.gid())).ok().flatten();
    let group = group.map_or_else(|| file.gid().to_string(), |group| group.name);
    let owner = name_of(Uid::from_raw(file.uid()));
    format!("{} ({kind} {:04o} {owner}:{group})", path.display(), file.mode() & 0o7777)
}

fn name_of(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The process that listens; where systemd does, the one that it listens for.
fn daemon_behind(socket: &UnixStream) -> Option<u32> {
    let is_ours = |pid: u32| comm(pid).is_some_and(|comm| comm == "resized");
    let peer = getsockopt(socket, PeerCredentials).ok()?.pid().unsigned_abs();
    if is_ours(peer) {
        return Some(peer);
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours: Vec<u32> = pids.filter(|&pid| is_ours(pid)).collect();
    // Of several, nobody says which.
    if let [pid] = ours[..] { Some(pid) } else { None }
}

fn comm(pid: u32) -> Option<String> {
    let comm = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/comm"))).ok()?;
    Some(comm.trim_end().to_owned())
}
