//! The wire format, byte by byte: every message, and every value of every enum in them, as it was
//! when [`VERSION`] was last raised. Written by hand from the format's description, not copied from
//! its output.
//!
//! A vector here is a promise to clients that were built before. Whoever changes one raises `VERSION`
//! with the same commit; a new variant goes behind the others, gets its vector here, and raises it too.
//!
//! Integers are little-endian and of fixed width, an enum is the number of its variant in 32 bits, and
//! `usize` and the lengths of vectors and strings are 64 bits.

use std::fmt::Debug;
use std::time::Duration;

use bincode::{Decode, Encode};
use resized_protocol::VERSION;
use resized_protocol::codec::{CodecError, Inbox, encode};
use resized_protocol::coding::{Coding, CodingError, Jpeg, Quality, Subsampling};
use resized_protocol::frame::{Extent, FrameError, FrameSpec, Matrix, PixelFormat, Range, Siting};
use resized_protocol::message::{
    Alpha, Backing, Completion, Cropped, Features, Filter, Goodbye, Message, Refusal, Reply,
    Request, Resource, Status, StreamSpec, Violation, Whose,
};
use resized_protocol::placement::{Align, Crop, Framing};
use resized_protocol::remote::{Call, Offer};
use resized_protocol::shm::RingLayout;
use resized_protocol::stats::{ClientStats, DeviceStats, Histogram, PAGE, Stats, StreamStats};
use resized_protocol::tensor::{Arrangement, ChannelOrder, Element, Normalisation, Tensor};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The value is exactly these bytes on the wire, and these bytes are that value. `hex` leaves out the
/// length in front.
#[track_caller]
fn pinned<T: Encode + Decode<()> + PartialEq + Debug>(value: T, hex: &str) {
    let body = bytes(hex);
    let mut wanted = Vec::from((body.len() as u32).to_le_bytes());
    wanted.extend(&body);
    let mut encoded = Vec::new();
    encode(&value, &mut encoded).unwrap();
    assert_eq!(encoded, wanted, "{value:?} is other bytes now: raise VERSION if that is meant");
    let mut inbox = Inbox::new();
    let arrived = inbox.fill(|room| {
        room[..wanted.len()].copy_from_slice(&wanted);
        Ok::<_, ()>(wanted.len())
    });
    arrived.unwrap();
    assert_eq!(inbox.pop(), Ok(Some(value)), "these bytes mean something else now");
}

/// The enum's variants, in this order, are 0, 1, 2...
#[track_caller]
fn numbered<T: Encode + Decode<()> + PartialEq + Debug>(values: impl IntoIterator<Item = T>) {
    for (number, value) in values.into_iter().enumerate() {
        pinned(value, &format!("{number:02x}000000"));
    }
}

/// Gray8, 2x1 to 1x1, one slot.
fn spec() -> StreamSpec {
    let source = FrameSpec::new(PixelFormat::Gray8, Extent::new(2, 1));
    StreamSpec { slots: 1, ..StreamSpec::new(source, Extent::new(1, 1)) }
}

#[test]
fn the_version_these_vectors_belong_to() {
    assert_eq!(VERSION, 7);
}

#[test]
fn a_message_is_its_length_and_its_bytes() {
    let mut encoded = vec![0xee];
    encode(&Request::Submit { stream: 0x0403_0201, slots: vec![5, 6] }, &mut encoded).unwrap();
    let wanted = "ee 18000000 02000000 01020304 0200000000000000 05000000 06000000";
    assert_eq!(encoded, bytes(wanted));
}

#[test]
fn enums_without_fields_keep_their_numbers() {
    use PixelFormat::{Bgr24, Bgra, Gray8, I420, I420P10, Nv12, P010, Rgb24, Rgba};
    numbered([Gray8, I420, Nv12, Rgb24, Bgr24, Rgba, Bgra, I420P10, P010]);
    numbered(PixelFormat::EIGHT_BIT.into_iter().chain(PixelFormat::TEN_BIT));
    use Filter::{Area, Bicubic, Bilinear, Lanczos3, Mitchell, Nearest};
    numbered([Nearest, Bilinear, Bicubic, Lanczos3, Area, Mitchell]);
    numbered(Filter::ALL);
    numbered([Range::Limited, Range::Full]);
    numbered([Siting::Left, Siting::Centre]);
    numbered([Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020]);
    numbered([Alpha::Apart, Alpha::Weighs]);
    numbered([Align::Start, Align::Centre, Align::End]);
    numbered([Element::F32, Element::F16, Element::I8]);
    numbered([Arrangement::Planar, Arrangement::Interleaved]);
    numbered([ChannelOrder::Rgb, ChannelOrder::Bgr]);
    numbered([Status::Done, Status::Cancelled, Status::Failed, Status::Late, Status::Unreadable]);
    numbered([Subsampling::Neither, Subsampling::Horizontal, Subsampling::Both]);
    use Resource::{Connections, RingBytes, Slots, Streams};
    numbered([Connections, Streams, Slots, RingBytes]);
    numbered([Whose::User, Whose::Daemon, Whose::Machine, Whose::Bridge, Whose::Connection]);
    numbered([CodecError::TooLong, CodecError::Malformed, CodecError::Trailing]);
}

fn tensor() -> PixelFormat {
    PixelFormat::Tensor(Tensor {
        element: Element::F16,
        arrangement: Arrangement::Planar,
        order: ChannelOrder::Bgr,
    })
}

#[test]
fn requests_keep_their_bytes() {
    pinned(
        Request::Hello { version: 1, features: Features::NAMED_SEGMENTS, name: "ab".into() },
        "00000000 0100 0100000000000000 0200000000000000 6162",
    );
    let spec = StreamSpec {
        source: FrameSpec {
            format: PixelFormat::Nv12,
            extent: Extent::new(1920, 1080),
            range: Range::Full,
            siting: Siting::Centre,
            matrix: Matrix::Bt2020,
        },
        destination: FrameSpec {
            format: PixelFormat::Bgra,
            extent: Extent::new(640, 0x0102_0304),
            range: Range::Limited,
            siting: Siting::Left,
            matrix: Matrix::Bt709,
        },
        crop: Some(Crop { left: 1.0, top: 2.0, width: 0.5, height: 1.5 }),
        framing: Framing::Fit { align: Align::End, pad: [1, 2, 3] },
        filter: Filter::Lanczos3,
        alpha: Alpha::Weighs,
        normalisation: Normalisation { mean: [1.0, 2.0, 0.5], scale: [0.25, -1.0, 0.0] },
        slots: 256,
        weight: 7,
        deadline: Some(Duration::new(1, 2)),
        coding: Coding {
            jpeg_in: true,
            jpeg_out: Some(Jpeg {
                quality: Quality::DEFAULT,
                subsampling: Subsampling::Horizontal,
            }),
        },
    };
    pinned(
        Request::Open { stream: 9, spec, named: true },
        "01000000 09000000
         02000000 80070000 38040000 01000000 01000000 02000000
         06000000 80020000 04030201 00000000 00000000 01000000
         01 000000000000f03f 0000000000000040 000000000000e03f 000000000000f83f
         01000000 02000000 010203
         03000000 01000000
         0000803f 00000040 0000003f 0000803e 000080bf 00000000
         00010000 07000000 01 0100000000000000 02000000 01 01 55 01000000 01",
    );
    pinned(
        Request::Submit { stream: 7, slots: vec![3, 0, 255] },
        "02000000 07000000 0300000000000000 03000000 00000000 ff000000",
    );
    pinned(Request::Cancel { stream: 7, slot: 3 }, "03000000 07000000 03000000");
    pinned(Request::Close { stream: u32::MAX }, "04000000 ffffffff");
    pinned(Request::Stats, "05000000");
    let crop = Crop { left: 1.0, top: 2.0, width: 0.5, height: 1.5 };
    pinned(
        Request::SubmitCropped { stream: 7, slots: vec![Cropped { slot: 3, crop }] },
        "06000000 07000000 0100000000000000 03000000
         000000000000f03f 0000000000000040 000000000000e03f 000000000000f83f",
    );
    pinned(Request::Clients { from: 7 }, "07000000 0700000000000000");
    pinned(Request::Streams { client: 7, from: 3 }, "08000000 0700000000000000 03000000");
}

#[test]
fn replies_keep_their_bytes() {
    pinned(
        Message::Reply(Reply::Welcome {
            version: 1,
            features: Features(0x8000_0000_0000_0000),
            devices: vec!["cpu".into(), "".into()],
        }),
        "00000000 00000000 0100 0000000000000080
         0200000000000000 0300000000000000 637075 0000000000000000",
    );
    let ring = RingLayout::new(&spec()).unwrap();
    let frames = "
        0100000000000000 0000000000000000 4000000000000000 02000000 01000000 0100000000000000 0100000000000000
        8000000000000000
        0100000000000000 0000000000000000 4000000000000000 01000000 01000000 0100000000000000 0100000000000000
        8000000000000000
        0010000000000000 0020000000000000 01000000";
    pinned(
        Message::Reply(Reply::Opened {
            stream: 9,
            ring: ring.clone(),
            backing: Backing::Descriptor,
        }),
        &format!("00000000 01000000 09000000 {frames} 00000000"),
    );
    pinned(
        Message::Reply(Reply::Opened { stream: 9, ring, backing: Backing::Named("/s".into()) }),
        &format!("00000000 01000000 09000000 {frames} 01000000 0200000000000000 2f73"),
    );
    pinned(Message::Reply(Reply::Closed { stream: 9 }), "00000000 02000000 09000000");
    pinned(Message::Reply(Reply::Refused(Refusal::Stopping)), "00000000 04000000 0e000000");
}

#[test]
fn figures_keep_their_bytes() {
    let device = DeviceStats {
        name: "cpu".into(),
        frames: 1,
        failed: 2,
        pixels: 3,
        busy_ns: 4,
        copied_bytes: 9,
        queued: histogram(5),
        worked: histogram(6),
    };
    let (five, six) = (histogram_bytes(5), histogram_bytes(6));
    pinned(
        Message::Reply(Reply::Stats(Stats {
            sessions: 1,
            streams: 2,
            ring_bytes: 3,
            queued: 4,
            refused: 5,
            copied_bytes: 6,
            devices: vec![device],
        })),
        &format!(
            "00000000 03000000 01000000 02000000 0300000000000000 0400000000000000
             0500000000000000 0600000000000000
             0100000000000000 0300000000000000 637075 0100000000000000 0200000000000000
             0300000000000000 0400000000000000 0900000000000000 {five} {six}"
        ),
    );
    let client = ClientStats {
        client: 1,
        uid: 2,
        name: "ab".into(),
        streams: 3,
        frames: 4,
        pixels: 5,
        copied_bytes: 6,
        queued: histogram(5),
        worked: histogram(6),
    };
    pinned(
        Message::Reply(Reply::Clients(vec![client])),
        &format!(
            "00000000 05000000 0100000000000000 0100000000000000 02000000 0200000000000000 6162
             03000000 0400000000000000 0500000000000000 0600000000000000 {five} {six}"
        ),
    );
    pinned(
        Message::Reply(Reply::Streams(vec![stream_stats()])),
        &format!(
            "00000000 06000000 0100000000000000 0100000000000000 02000000 03000000 0400000000000000
             0500000000000000 0600000000000000 0a00000000000000
             0700000000000000 0800000000000000 0900000000000000
             {five} {six}"
        ),
    );
}

#[test]
fn calls_keep_their_bytes() {
    let knock = Call::Knock { version: 4, token: "ab".into() };
    pinned(knock, "00000000 0400 0200000000000000 6162");
    pinned(Call::Request(Request::Close { stream: 7 }), "01000000 04000000 07000000");
    let offer = Offer { version: 4, endpoint: "x".into(), token: "ab".into(), free: 5 };
    pinned(offer, "0400 0100000000000000 78 0200000000000000 6162 05000000");
}

fn histogram(sum_ns: u64) -> Histogram {
    let mut counts = [0; Histogram::BUCKETS];
    counts[1] = 7;
    Histogram { counts, sum_ns }
}

fn histogram_bytes(sum_ns: u8) -> String {
    let zero = "0000000000000000 ";
    format!("{zero} 0700000000000000 {} {sum_ns:02x}00000000000000", zero.repeat(22))
}

fn stream_stats() -> StreamStats {
    StreamStats {
        client: 1,
        stream: 2,
        slots: 3,
        ring_bytes: 4,
        frames: 5,
        pixels: 6,
        copied_bytes: 10,
        failed: 7,
        late: 8,
        cancelled: 9,
        queued: histogram(5),
        worked: histogram(6),
    }
}

#[test]
fn a_page_fits_a_message_whatever_names_are() {
    let client = ClientStats {
        client: u64::MAX,
        uid: 0,
        // Characters of four bytes.
        name: "\u{1f600}".repeat(resized_protocol::message::MAX_NAME),
        streams: 0,
        frames: 0,
        pixels: 0,
        copied_bytes: 0,
        queued: Histogram::default(),
        worked: Histogram::default(),
    };
    let mut bytes = Vec::new();
    encode(&Message::Reply(Reply::Clients(vec![client; PAGE])), &mut bytes).unwrap();
    encode(&Message::Reply(Reply::Streams(vec![stream_stats(); PAGE])), &mut bytes).unwrap();
}

#[test]
fn a_layout_of_several_planes() {
    let source = FrameSpec::new(PixelFormat::Nv12, Extent::new(65, 3));
    let ring = RingLayout::new(&StreamSpec::new(source, Extent::new(1, 1))).unwrap();
    pinned(
        ring,
        "0200000000000000
         0000000000000000 8000000000000000 41000000 03000000 0100000000000000 0100000000000000
         8001000000000000 8000000000000000 21000000 02000000 0200000000000000 0100000000000000
         c002000000000000
         0200000000000000
         0000000000000000 4000000000000000 01000000 01000000 0100000000000000 0100000000000000
         4000000000000000 4000000000000000 01000000 01000000 0200000000000000 0100000000000000
         c000000000000000
         0010000000000000 0020000000000000 04000000",
    );
}

#[test]
fn completions_keep_their_bytes() {
    let completion = Completion {
        stream: 1,
        slot: 2,
        status: Status::Failed,
        device: 3,
        queued_ns: 0x0102_0304_0506_0708,
        worked_ns: 5,
    };
    pinned(
        Message::Completed(completion),
        "01000000 01000000 02000000 02000000 0300 0807060504030201 0500000000000000",
    );
}

#[test]
fn refusals_keep_their_bytes() {
    let extent = Extent::new(0, 7);
    let refusals = [
        (Refusal::Version { daemon: 1, client: 2 }, "00000000 0100 0200"),
        (Refusal::User { uid: 1000 }, "01000000 e8030000"),
        (Refusal::Source(FrameError::Empty(extent)), "02000000 00000000 00000000 07000000"),
        (Refusal::Source(FrameError::TooLong(extent)), "02000000 01000000 00000000 07000000"),
        (Refusal::Destination(FrameError::Overflow(extent)), "03000000 02000000 00000000 07000000"),
        (Refusal::Format(tensor()), "04000000 09000000 01000000 00000000 01000000"),
        (
            Refusal::Crop { crop: Crop { left: -2.0, ..Crop::whole(extent) }, extent },
            "05000000 00000000000000c0 0000000000000000 0000000000000000 0000000000001c40
             00000000 07000000",
        ),
        (Refusal::Normalisation, "06000000"),
        (Refusal::Slots { asked: 257 }, "07000000 01010000"),
        (Refusal::Overflow, "08000000"),
        (Refusal::Weight { asked: 101 }, "09000000 65000000"),
        (
            Refusal::Quota {
                whose: Whose::Daemon,
                what: Resource::RingBytes,
                asked: 1,
                left: 2,
                limit: 3,
            },
            "0a000000 01000000 03000000 0100000000000000 0200000000000000 0300000000000000",
        ),
        (Refusal::System { errno: -1 }, "0b000000 ffffffff"),
        (Refusal::NamedSegments, "0c000000"),
        (Refusal::Device, "0d000000"),
        (Refusal::Stopping, "0e000000"),
        (Refusal::Token, "0f000000"),
        (Refusal::Unreachable, "10000000"),
        (Refusal::Coded, "11000000"),
        (Refusal::Coding(CodingError::Format(PixelFormat::Nv12)), "12000000 00000000 02000000"),
        (Refusal::Coding(CodingError::Colour), "12000000 01000000"),
        (Refusal::Coding(CodingError::Quality(101)), "12000000 02000000 65"),
        (Refusal::Coding(CodingError::Subsampling), "12000000 03000000"),
        (
            Refusal::Coding(CodingError::Large { pixels: 2, limit: 1 }),
            "12000000 04000000 0200000000000000 0100000000000000",
        ),
    ];
    for (refusal, hex) in refusals {
        pinned(refusal, hex);
    }
}

#[test]
fn goodbyes_keep_their_bytes() {
    pinned(Message::Goodbye(Goodbye::Stopping), "02000000 00000000");
    let refused = Goodbye::Refused(Refusal::Stopping);
    pinned(Message::Goodbye(refused), "02000000 02000000 0e000000");
    pinned(Message::Goodbye(Goodbye::Silence), "02000000 03000000");
    let violations = [
        (Violation::Codec(CodecError::Trailing), "00000000 02000000"),
        (Violation::NoHello, "01000000"),
        (Violation::SecondHello, "02000000"),
        (Violation::UnknownStream(9), "03000000 09000000"),
        (Violation::UnknownSlot { stream: 1, slot: 2 }, "04000000 01000000 02000000"),
        (Violation::SlotBusy { stream: 1, slot: 2 }, "05000000 01000000 02000000"),
        (Violation::EmptySubmit, "06000000"),
        (Violation::Crop { stream: 1, slot: 2 }, "07000000 01000000 02000000"),
        (Violation::StreamNumber(9), "08000000 09000000"),
        (Violation::CodedLen { stream: 1, len: 2 }, "09000000 01000000 02000000"),
    ];
    for (violation, hex) in violations {
        let goodbye = Message::Goodbye(Goodbye::Violation(violation));
        pinned(goodbye, &format!("02000000 01000000 {hex}"));
    }
}

/// These do not compile when a variant is added, so that whoever adds one comes here, adds its vector
/// above, and raises the version.
#[allow(dead_code)]
mod no_variant_is_missing {
    use super::*;

    fn request(request: Request) {
        match request {
            Request::Hello { .. }
            | Request::Open { .. }
            | Request::Submit { .. }
            | Request::Cancel { .. }
            | Request::Close { .. }
            | Request::Stats
            | Request::SubmitCropped { .. }
            | Request::Clients { .. }
            | Request::Streams { .. } => {}
        }
    }

    fn message(message: Message) {
        match message {
            Message::Reply(
                Reply::Welcome { .. }
                | Reply::Opened { backing: Backing::Descriptor | Backing::Named(_), .. }
                | Reply::Closed { .. }
                | Reply::Stats(_)
                | Reply::Refused(_)
                | Reply::Clients(_)
                | Reply::Streams(_),
            )
            | Message::Completed(_)
            | Message::Goodbye(Goodbye::Stopping | Goodbye::Refused(_) | Goodbye::Silence) => {}
            Message::Goodbye(Goodbye::Violation(violation)) => match violation {
                Violation::Codec(
                    CodecError::TooLong | CodecError::Malformed | CodecError::Trailing,
                )
                | Violation::NoHello
                | Violation::SecondHello
                | Violation::UnknownStream(_)
                | Violation::UnknownSlot { .. }
                | Violation::SlotBusy { .. }
                | Violation::EmptySubmit
                | Violation::Crop { .. }
                | Violation::StreamNumber(_)
                | Violation::CodedLen { .. } => {}
            },
        }
    }

    fn refusal(refusal: Refusal) {
        match refusal {
            Refusal::Version { .. }
            | Refusal::User { .. }
            | Refusal::Source(
                FrameError::Empty(_) | FrameError::TooLong(_) | FrameError::Overflow(_),
            )
            | Refusal::Destination(_)
            | Refusal::Format(_)
            | Refusal::Crop { .. }
            | Refusal::Normalisation
            | Refusal::Slots { .. }
            | Refusal::Overflow
            | Refusal::Weight { .. }
            | Refusal::Quota {
                whose:
                    Whose::User | Whose::Daemon | Whose::Machine | Whose::Bridge | Whose::Connection,
                what:
                    Resource::Connections | Resource::Streams | Resource::Slots | Resource::RingBytes,
                ..
            }
            | Refusal::System { .. }
            | Refusal::NamedSegments
            | Refusal::Device
            | Refusal::Stopping
            | Refusal::Token
            | Refusal::Unreachable
            | Refusal::Coded
            | Refusal::Coding(
                CodingError::Format(_)
                | CodingError::Colour
                | CodingError::Quality(_)
                | CodingError::Subsampling
                | CodingError::Large { .. },
            ) => {}
        }
    }

    fn unit(
        status: Status,
        range: Range,
        siting: Siting,
        matrix: Matrix,
        framing: Framing,
        alpha: Alpha,
    ) {
        match (status, range, siting, matrix, framing, alpha) {
            (
                Status::Done
                | Status::Cancelled
                | Status::Failed
                | Status::Late
                | Status::Unreadable,
                Range::Limited | Range::Full,
                Siting::Left | Siting::Centre,
                Matrix::Bt601 | Matrix::Bt709 | Matrix::Bt2020,
                Framing::Stretch
                | Framing::Fit { align: Align::Start | Align::Centre | Align::End, .. }
                | Framing::Fill,
                Alpha::Apart | Alpha::Weighs,
            ) => {}
        }
    }

    fn call(call: Call) {
        match call {
            Call::Knock { .. } | Call::Request(_) => {}
        }
    }

    fn filter(filter: Filter) {
        use Filter::{Area, Bicubic, Bilinear, Lanczos3, Mitchell, Nearest};
        match filter {
            Nearest | Bilinear | Bicubic | Lanczos3 | Area | Mitchell => {}
        }
    }

    fn subsampling(subsampling: Subsampling) {
        match subsampling {
            Subsampling::Neither | Subsampling::Horizontal | Subsampling::Both => {}
        }
    }

    fn format(format: PixelFormat) {
        use PixelFormat::{Bgr24, Bgra, Gray8, I420, I420P10, Nv12, P010, Rgb24, Rgba};
        match format {
            Gray8 | I420 | Nv12 | Rgb24 | Bgr24 | Rgba | Bgra | I420P10 | P010 => {}
            PixelFormat::Tensor(Tensor {
                element: Element::F32 | Element::F16 | Element::I8,
                arrangement: Arrangement::Planar | Arrangement::Interleaved,
                order: ChannelOrder::Rgb | ChannelOrder::Bgr,
            }) => {}
        }
    }
}
