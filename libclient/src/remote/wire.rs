//! Owns the reading and writing of messages and of the pixels behind them, over any byte stream.
//!
//! Knows no message in particular. Invariants: pixels go between the stream and the slot they
//! belong to without a buffer between, but for the few that were read together with a message; what
//! is begun, a message or a frame, must get on within the patience given, and be over at the pace
//! of a slow link, while between messages nobody is hurried.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bincode::{Decode, Encode};
use resized_protocol::codec::{self, CodecError, Inbox};
use resized_protocol::coding::PREFIX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

/// Bytes a second of a link that is slow and yet in use. Who is slower sends, or takes, a byte now
/// and then to keep what is kept for it.
const SLOWEST: usize = 16 * 1024;

/// A connection, with TLS or without.
pub type Stream = Box<dyn Duplex>;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes are no message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream failed, ended in the middle of something, or did not get on in time.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The half that is read.
#[derive(Debug)]
pub struct Receiver<R> {
    reader: R,
    inbox: Inbox,
    patience: Duration,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    /// Reads from there.
    pub fn new(reader: R, patience: Duration) -> Self {
        Self { reader, inbox: Inbox::new(), patience }
    }

    /// The next message; none if the other end has hung up in good order.
    pub async fn next<M: Decode<()>>(&mut self) -> Result<Option<M>, WireError> {
        if let Some(message) = self.inbox.pop()? {
            return Ok(Some(message));
        }
        if self.inbox.is_empty() && fill(&mut self.reader, &mut self.inbox).await? == 0 {
            return Ok(None);
        }
        let rest = async {
            loop {
                if let Some(message) = self.inbox.pop()? {
                    return Ok(Some(message));
                }
                if fill(&mut self.reader, &mut self.inbox).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
        };
        timeout(self.patience, rest)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// Whether what is no message is an alert of TLS's (RFC 8446, 5.1).
    pub(super) fn is_at_tls(&mut self) -> bool {
        matches!(self.inbox.take(2), [21, 3])
    }

    /// Reads the number of bytes of a [coded](resized_protocol::coding) frame.
    pub async fn coded_len(&mut self) -> io::Result<u32> {
        let mut prefix = [0; PREFIX];
        self.fill(&mut prefix).await?;
        Ok(u32::from_le_bytes(prefix))
    }

    /// Reads what follows the last message, to the last byte.
    pub async fn fill(&mut self, mut into: &mut [u8]) -> io::Result<()> {
        let there = self.inbox.take(into.len());
        into[..there.len()].copy_from_slice(there);
        into = &mut into[there.len()..];
        let all = in_all(self.patience, into.len());
        let rest = async {
            while !into.is_empty() {
                let read = in_time(self.patience, self.reader.read(into)).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                into = &mut into[read..];
            }
            Ok(())
        };
        in_time(all, rest).await
    }

    /// As [`fill`](Self::fill), so many bytes into memory that nothing was written to before.
    pub async fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(self.inbox.take(len));
        let left = len - bytes.len();
        let all = in_all(self.patience, left);
        let rest = async {
            let mut reader = (&mut self.reader).take(left as u64);
            while bytes.len() < len {
                if in_time(self.patience, reader.read_buf(&mut bytes)).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(bytes)
        };
        in_time(all, rest).await
    }
}

async fn fill(reader: &mut (impl AsyncRead + Unpin), inbox: &mut Inbox) -> io::Result<usize> {
    poll_fn(|context| {
        let filled = inbox.fill(|room| {
            let mut room = ReadBuf::new(room);
            match Pin::new(&mut *reader).poll_read(context, &mut room) {
                Poll::Ready(Ok(())) => Ok(room.filled().len()),
                Poll::Ready(Err(error)) => Err(Poll::Ready(Err(error))),
                Poll::Pending => Err(Poll::Pending),
            }
        });
        match filled {
            Ok((read, _)) => Poll::Ready(Ok(read)),
            Err(other) => other,
        }
    })
    .await
}

/// The half that is written.
#[derive(Debug)]
pub struct Sender<W> {
    writer: W,
    bytes: Vec<u8>,
    patience: Duration,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    /// Writes there.
    pub fn new(writer: W, patience: Duration) -> Self {
        Self { writer, bytes: Vec::new(), patience }
    }

    /// Sends a message, and pixels behind it.
    pub async fn send(&mut self, message: &impl Encode, pixels: &[u8]) -> io::Result<()> {
        self.bytes.clear();
        codec::encode(message, &mut self.bytes).map_err(io::Error::other)?;
        self.write(pixels).await
    }

    /// Sends pixels that belong to the message before.
    pub async fn send_more(&mut self, pixels: &[u8]) -> io::Result<()> {
        self.bytes.clear();
        self.write(pixels).await
    }

    /// Writes the bytes of a message, if any, and pixels behind them.
    async fn write(&mut self, pixels: &[u8]) -> io::Result<()> {
        let (mut head, mut rest) = (self.bytes.as_slice(), pixels);
        let all = in_all(self.patience, head.len() + rest.len());
        let writer = &mut self.writer;
        let write = async {
            while !(head.is_empty() && rest.is_empty()) {
                let both = [IoSlice::new(head), IoSlice::new(rest)];
                let sent = in_time(self.patience, writer.write_vectored(&both)).await?;
                if sent == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                let of_head = sent.min(head.len());
                head = &head[of_head..];
                rest = &rest[sent - of_head..];
            }
            writer.flush().await
        };
        in_time(all, write).await
    }

    /// Says that nothing more comes.
    pub async fn end(&mut self) -> io::Result<()> {
        in_time(self.patience, self.writer.shutdown()).await
    }
}

/// For so many bytes.
const fn in_all(patience: Duration, bytes: usize) -> Duration {
    patience.saturating_add(Duration::from_secs((bytes / SLOWEST) as u64))
}

async fn in_time<T>(
    patience: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(patience, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
