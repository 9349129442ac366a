//! The reading of messages and frames, from bytes that come in any pieces, and from any bytes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use resized_client::remote::wire::{Receiver, Sender};
use resized_client::{Crop, Extent, FrameSpec, PixelFormat, StreamSpec};
use resized_protocol::codec::encode;
use resized_protocol::message::{Cropped, Features, Request};
use resized_protocol::remote::Call;
use tokio::io::{AsyncRead, ReadBuf};

const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that come piece by piece, then an end.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    read: usize,
}

impl Pieces {
    /// Pieces of these lengths, over and over.
    fn new(mut bytes: &[u8], lens: &[usize]) -> Self {
        let mut pieces = VecDeque::new();
        for len in lens.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let (piece, rest) = bytes.split_at((*len).min(bytes.len()));
            pieces.push_back(piece.to_vec());
            bytes = rest;
        }
        Self { pieces, read: 0 }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read += 1;
        // Every third time nothing is there yet.
        if self.read.is_multiple_of(3) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(mut piece) = self.pieces.pop_front() {
            let rest = piece.split_off(piece.len().min(into.remaining()));
            into.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn call() -> impl Strategy<Value = Call> {
    let slots = vec(any::<u32>(), 0..8);
    let crop = Crop { left: 0.5, top: 1.0, width: 2.0, height: 3.0 };
    let request = prop_oneof![
        (any::<u32>(), slots.clone()).prop_map(|(stream, slots)| Request::Submit { stream, slots }),
        (any::<u32>(), slots).prop_map(move |(stream, slots)| {
            let slots = slots.into_iter().map(|slot| Cropped { slot, crop }).collect();
            Request::SubmitCropped { stream, slots }
        }),
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(stream, width, height)| {
            let source = FrameSpec::new(PixelFormat::P010, Extent::new(width, height));
            let spec = StreamSpec::new(source, Extent::new(height, width));
            Request::Open { stream, spec, named: false }
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(stream, slot)| Request::Cancel { stream, slot }),
        any::<u32>().prop_map(|stream| Request::Close { stream }),
        (any::<u16>(), ".{0,40}").prop_map(|(version, name)| Request::Hello {
            version,
            features: Features(u64::MAX),
            name
        }),
        Just(Request::Stats),
    ];
    prop_oneof![
        8 => request.prop_map(Call::Request),
        1 => (any::<u16>(), ".{0,80}").prop_map(|(version, token)| Call::Knock { version, token }),
    ]
}

/// Messages, each with a frame behind it.
fn conversation() -> impl Strategy<Value = Vec<(Call, Vec<u8>)>> {
    vec((call(), vec(any::<u8>(), 0..6000)), 1..12)
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..12_usize, 1..5000_usize], 1..20)
}

proptest! {
    #[test]
    fn what_was_said_is_heard_in_whatever_pieces(said in conversation(), lens in lens()) {
        block_on(async {
            let mut bytes = Vec::new();
            let mut sender = Sender::new(&mut bytes, PATIENCE);
            for (call, frame) in &said {
                sender.send(call, frame).await.unwrap();
            }
            let mut receiver = Receiver::new(Pieces::new(&bytes, &lens), PATIENCE);
            for (call, frame) in &said {
                assert_eq!(receiver.next::<Call>().await.unwrap().as_ref(), Some(call));
                let mut heard = vec![0; frame.len()];
                receiver.fill(&mut heard).await.unwrap();
                assert!(heard == *frame);
            }
            assert!(receiver.next::<Call>().await.unwrap().is_none());
        });
    }

    #[test]
    fn any_bytes_are_messages_or_an_error(
        said in conversation(),
        wrong in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        end in any::<prop::sample::Index>(),
        lens in lens(),
    ) {
        block_on(async {
            let mut bytes = Vec::new();
            for (call, frame) in &said {
                encode(call, &mut bytes).unwrap();
                // Without a frame there is more to be misunderstood.
                bytes.extend(&frame[..frame.len() % 3]);
            }
            for (at, value) in &wrong {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(end.index(bytes.len() + 1));
            let mut receiver = Receiver::new(Pieces::new(&bytes, &lens), PATIENCE);
            let mut read = 0;
            while let Ok(Some(call)) = receiver.next::<Call>().await {
                // It has these bytes and no others.
                let mut again = Vec::new();
                encode(&call, &mut again).unwrap();
                assert_eq!(again, bytes[read..read + again.len()]);
                read += again.len();
            }
        });
    }
}
