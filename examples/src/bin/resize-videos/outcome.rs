//! Owns what becomes of an instance: how it ended, its figures, and whether what ended it is its own
//! affair or that of all.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Error, Result};
use nix::errno::Errno;

use crate::notes::{Pace, Times};

/// How an instance ended.
pub(crate) enum End {
    /// With its video, or with the last picture that was asked for.
    Complete,
    /// Before, with the run.
    Stopped,
    /// By what is wrong with its video, in words.
    Failed(String),
}

/// What became of an instance.
pub(crate) struct Outcome<'a> {
    /// Counted from one.
    pub(crate) instance: usize,
    pub(crate) video: &'a Path,
    pub(crate) end: End,
    /// Pictures written.
    pub(crate) frames: u64,
    /// Packets and frames that could not be decoded.
    pub(crate) skipped: u64,
    /// From the start of the run to that of the instance.
    pub(crate) started: Duration,
    /// From there until its last picture was written.
    pub(crate) took: Duration,
    /// From submission until the collector had the frame.
    pub(crate) received: Times,
    /// From when the decoder gave the frame until its picture was written.
    pub(crate) written: Times,
    /// Pictures written, from the start of the instance on.
    pub(crate) pace: Pace,
    /// Names of devices, and how many frames each did.
    pub(crate) devices: Vec<(String, u64)>,
}

impl<'a> Outcome<'a> {
    /// Of an instance that has written nothing yet.
    pub(crate) fn new(
        instance: usize,
        video: &'a Path,
        end: End,
        started: Duration,
    ) -> Result<Self> {
        Ok(Self {
            instance,
            video,
            end,
            frames: 0,
            skipped: 0,
            started,
            took: Duration::ZERO,
            received: Times::new()?,
            written: Times::new()?,
            pace: Pace::new(),
            devices: Vec::new(),
        })
    }

    /// The name of the video without its folders, and whether all was done that was asked for.
    pub(crate) fn label(&self) -> String {
        let name = self.video.file_name().unwrap_or(self.video.as_os_str()).display();
        match &self.end {
            End::Complete => name.to_string(),
            End::Stopped => format!("{name}: stopped"),
            End::Failed(_) => format!("{name}: failed"),
        }
    }

    /// That, and why it was not.
    pub(crate) fn reason(&self) -> String {
        match &self.end {
            End::Failed(why) => format!("{}: {why}", self.label()),
            End::Complete | End::Stopped => self.label(),
        }
    }
}

/// Whether the others would meet what ended an instance: the daemon is lost or has no room for
/// anybody, or the system has no threads, descriptors or memory. Else it is about the video.
pub(crate) fn is_of_all(error: &Error) -> bool {
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM].map(|errno| errno as i32);
    if let Some(client) = error.downcast_ref::<resized_client::Error>() {
        return client.is_fatal() || client.is_shortage();
    }
    match error.downcast_ref::<ffmpeg_next::Error>() {
        Some(&ffmpeg_next::Error::Other { errno }) => short.contains(&errno),
        Some(_) => false,
        None => error.is::<io::Error>(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use resized_client::{Error as ClientError, Refusal, Resource, Whose};

    use super::*;

    #[test]
    fn what_others_would_meet_as_well_is_of_all() {
        let of_all = |error: Error| is_of_all(&error.context("clip.mkv"));
        assert!(of_all(ClientError::Disconnected.into()));
        assert!(of_all(Error::new(io::Error::from(io::ErrorKind::WouldBlock)).context("thread")));
        let refused = |asked, limit| {
            let whose = Whose::User;
            ClientError::Refused(Refusal::Quota {
                whose,
                what: Resource::Streams,
                asked,
                left: 0,
                limit,
            })
        };
        assert!(of_all(refused(1, 1).into()) && !of_all(refused(2, 1).into()));
        assert!(!of_all(ClientError::Failed.into()));
        assert!(!of_all(ffmpeg_next::Error::InvalidData.into()));
        let of_ffmpeg = |errno| ffmpeg_next::Error::Other { errno: errno as i32 };
        assert!(of_all(of_ffmpeg(Errno::EMFILE).into()));
        assert!(!of_all(of_ffmpeg(Errno::ENOENT).into()));
        assert!(!of_all(anyhow!("not one frame")));
    }
}
