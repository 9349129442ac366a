//! Owns the door for those who watch the daemon: figures as Prometheus reads them, liveness,
//! readiness.
//!
//! Knows no clients. Speaks as little HTTP as that takes, on a Unix socket or on loopback alone;
//! see RFC 9112 and the Prometheus text format 0.0.4. Invariant: nobody may ask here for long, and
//! few at once, and figures are put together a few times a second, however many ask, since the
//! daemon's own clients wait meanwhile.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use resized_protocol::stats::{DeviceStats, Histogram};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::{ACCEPT_PAUSE, Controls, Listener, Peers, ServerError};
use crate::lock;
use crate::session::Shared;

/// How long one who asks may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many may ask at once; for one more the one who has taken longest is hung up on.
const ASKING: usize = 8;

/// Longest question.
const LONGEST: usize = 4096;

/// How a question ends.
const END: &[u8] = b"\r\n\r\n";

/// For so long all who ask get the same figures.
const FRESH: Duration = Duration::from_millis(250);

/// Where figures are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExporterAddress {
    /// `unix:PATH`: a Unix socket; like the daemon's own, for its owner, or for all who may enter
    /// the folder.
    Unix(PathBuf),
    /// `127.0.0.1:PORT` or `[::1]:PORT`.
    Loopback(SocketAddr),
}

/// Text that is no address for figures.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no place for figures: write unix:/path/to/socket or 127.0.0.1:port")]
pub struct ExporterAddressError(String);

impl FromStr for ExporterAddress {
    type Err = ExporterAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let loopback =
            || text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Some(Self::Unix(path.into())),
            Some(_) => None,
            None => loopback().map(Self::Loopback),
        }
        .ok_or_else(|| ExporterAddressError(text.to_owned()))
    }
}

impl fmt::Display for ExporterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

/// Where somebody may ask for figures.
pub struct Exporter(Place);

enum Place {
    Unix(Listener),
    Loopback(TcpListener),
}

impl Exporter {
    /// Listens there.
    pub fn bind(address: &ExporterAddress, peers: Peers) -> Result<Self, ServerError> {
        match address {
            ExporterAddress::Unix(path) => Listener::bind(path, peers).map(Place::Unix),
            ExporterAddress::Loopback(socket) => TcpListener::bind(socket)
                .map(Place::Loopback)
                .map_err(|error| ServerError::Listen { path: address.to_string(), error }),
        }
        .map(Self)
    }

    /// Answers until it is dropped. `stopping`: no more clients are taken.
    pub(super) async fn serve(self, shared: Arc<Shared>, stopping: Arc<AtomicBool>) {
        if let Err(error) = self.try_serve(&shared, &stopping).await {
            tracing::error!(%error, "figures can't be asked for");
        }
    }

    async fn try_serve(self, shared: &Arc<Shared>, stopping: &Arc<AtomicBool>) -> io::Result<()> {
        let door = match &self.0 {
            Place::Unix(listener) => Door::Unix(listener.accepting()?),
            Place::Loopback(listener) => {
                let socket = listener.try_clone()?;
                socket.set_nonblocking(true)?;
                Door::Loopback(tokio::net::TcpListener::from_std(socket)?)
            }
        };
        attend(&door, shared, stopping).await;
        Ok(())
    }
}

/// An [`Exporter`] in the runtime.
enum Door {
    Unix(tokio::net::UnixListener),
    Loopback(tokio::net::TcpListener),
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

impl Door {
    async fn accept(&self) -> io::Result<Box<dyn Socket>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Loopback(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// The figures that somebody was given last, and when they were put together.
#[derive(Default)]
struct Latest(Mutex<Option<(Instant, Arc<str>)>>);

impl Latest {
    /// Those, or new ones if they are no longer fresh.
    fn at(&self, now: Instant, figures: impl FnOnce() -> String) -> Arc<str> {
        let mut latest = lock::wait(&self.0);
        if let Some((from, text)) = &*latest
            && now.saturating_duration_since(*from) < FRESH
        {
            return Arc::clone(text);
        }
        let text: Arc<str> = figures().into();
        *latest = Some((now, Arc::clone(&text)));
        text
    }
}

async fn attend(door: &Door, shared: &Arc<Shared>, stopping: &Arc<AtomicBool>) {
    let latest = Arc::<Latest>::default();
    let mut asking = JoinSet::new();
    // The longest at it first.
    let mut turns = VecDeque::new();
    loop {
        tokio::select! {
            accepted = door.accept() => match accepted {
                Ok(socket) => {
                    turns.retain(|asked: &AbortHandle| !asked.is_finished());
                    if turns.len() >= ASKING
                        && let Some(longest) = turns.pop_front()
                    {
                        // Or a few who say nothing would keep out who asks whether we live.
                        longest.abort();
                    }
                    let (shared, stopping) = (Arc::clone(shared), Arc::clone(stopping));
                    let latest = Arc::clone(&latest);
                    turns.push_back(asking.spawn(timeout(PATIENCE, async move {
                        // Who hangs up before the answer does not want it.
                        let _ = answer(socket, &shared, &latest, &stopping).await;
                    })));
                    // Who has asked already is answered before more are let in, however many these are.
                    yield_now().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "one who asks for figures could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = asking.join_next() => {}
        }
    }
}

async fn answer(
    mut socket: Box<dyn Socket>,
    shared: &Arc<Shared>,
    latest: &Latest,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let (mut question, mut seen) = (Vec::new(), 0);
    while !question[seen..].windows(END.len()).any(|end| end == END) && question.len() < LONGEST {
        seen = question.len().saturating_sub(END.len() - 1);
        if socket.read_buf(&mut question).await? == 0 {
            return Ok(());
        }
    }
    let stuck = || Controls { shared: Arc::clone(shared) }.stuck().is_some();
    let line = question.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => {
            ("200 OK", latest.at(Instant::now(), || figures(shared)))
        }
        (Some(b"GET"), Some(b"/live")) if stuck() => {
            ("503 Service Unavailable", "a device does not get on\n".into())
        }
        (Some(b"GET"), Some(b"/ready")) if stopping.load(Ordering::Relaxed) => {
            ("503 Service Unavailable", "stopping\n".into())
        }
        (Some(b"GET"), Some(b"/live" | b"/ready")) => ("200 OK", "yes\n".into()),
        (Some(b"GET"), _) => ("404 Not Found", "/metrics, /live and /ready are here\n".into()),
        _ => ("405 Method Not Allowed", "GET is understood\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}

/// All figures, as Prometheus reads them.
fn figures(shared: &Shared) -> String {
    let stats = shared.stats();
    let mut text = String::new();
    let mut plain = |kind: &str, name: &str, help: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# HELP resized_{name} {help}\n# TYPE resized_{name} {kind}\nresized_{name} {value}\n"
        );
    };
    plain("gauge", "sessions", "Connected clients.", stats.sessions.into());
    plain("gauge", "streams", "Open streams.", stats.streams.into());
    plain(
        "gauge",
        "ring_bytes",
        "Memory charged for rings and what is kept beside them.",
        stats.ring_bytes,
    );
    plain("gauge", "queued_frames", "Frames waiting for a device.", stats.queued);
    plain("counter", "refusals_total", "Connections and streams refused.", stats.refused);
    plain("counter", "copied_bytes_total", "Bytes of pixels copied.", stats.copied_bytes);
    let mut each = |kind: &str, name: &str, help: &str, value: fn(&DeviceStats) -> f64| {
        let name = format!("resized_device_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for device in &stats.devices {
            let _ =
                writeln!(text, "{name}{{device=\"{}\"}} {}", label(&device.name), value(device));
        }
    };
    each("counter", "frames_total", "Frames completed.", |device| device.frames as f64);
    each("counter", "failed_total", "Attempts that failed.", |device| device.failed as f64);
    each("counter", "pixels_total", "Pixels of completed frames.", |device| device.pixels as f64);
    each("counter", "copied_bytes_total", "Bytes of pixels copied for it.", |device| {
        device.copied_bytes as f64
    });
    let help = "Time worked, of all lanes and of the thread that reads messages.";
    each("counter", "busy_seconds_total", help, |device| device.busy_ns as f64 / 1e9);
    let help = "From submission until a device took the frame.";
    histograms(&mut text, "queued", help, &stats.devices, |device| &device.queued);
    let help = "From then until the frame was done.";
    histograms(&mut text, "worked", help, &stats.devices, |device| &device.worked);
    text
}

fn histograms(
    text: &mut String,
    what: &str,
    help: &str,
    devices: &[DeviceStats],
    of: fn(&DeviceStats) -> &Histogram,
) {
    let name = format!("resized_device_{what}_seconds");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    for device in devices {
        histogram(text, &name, &label(&device.name), of(device));
    }
}

fn histogram(text: &mut String, name: &str, device: &str, times: &Histogram) {
    let mut reached = 0;
    for (bucket, count) in times.counts.iter().enumerate() {
        reached += count;
        let bound = Histogram::bound(bucket)
            .map_or_else(|| "+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
        let _ = writeln!(text, "{name}_bucket{{device=\"{device}\",le=\"{bound}\"}} {reached}");
    }
    let sum = times.sum_ns as f64 / 1e9;
    let _ = writeln!(text, "{name}_sum{{device=\"{device}\"}} {sum}");
    let _ = writeln!(text, "{name}_count{{device=\"{device}\"}} {reached}");
}

/// A label's value: quotes, backslashes and line ends are escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_given_here_and_nowhere_else() {
        for good in ["unix:/run/x", "127.0.0.1:9100", "[::1]:9100", "127.0.0.1:0"] {
            assert_eq!(good.parse::<ExporterAddress>().unwrap().to_string(), good);
        }
        for bad in ["", "unix:", "0.0.0.0:9100", "192.0.2.1:80", "localhost:80", "/run/x", "[::]:1"]
        {
            assert!(bad.parse::<ExporterAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn figures_are_put_together_a_few_times_a_second_however_many_ask() {
        let (latest, begun) = (Latest::default(), Instant::now());
        let mut made = 0;
        let mut at = |milliseconds| {
            let now = begun + Duration::from_millis(milliseconds);
            latest.at(now, || {
                made += 1;
                made.to_string()
            })
        };
        let given: Vec<_> = (0..1000).map(&mut at).collect();
        for (number, text) in given.iter().enumerate() {
            assert_eq!(**text, (number / 250 + 1).to_string());
        }
        // Threads may have looked at the clock in another order.
        assert_eq!(*at(999), *at(0));
    }

    #[test]
    fn labels_can_not_break_out() {
        assert_eq!(label("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
