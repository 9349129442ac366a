//! Pictures through a daemon in this process: what becomes of them, and what is refused before it costs
//! anything.

use std::io::Cursor;
use std::ops::Deref;
use std::process::abort;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use image::codecs::png::{PngDecoder, PngEncoder};
use image::codecs::webp::{WebPDecoder, WebPEncoder};
use image::{ExtendedColorType, ImageDecoder, ImageEncoder};
use resized::{Devices, Options, Server};
use resized_client::{Client, Extent, Quality};
use resized_pictures::{Desk, Format, Limits, Picture, PictureError, Settings};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

const LIMITS: Limits = Limits { pixels: 1_000_000, made: 500_000, scans: 64 };

/// Far longer than any test here takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A daemon for one test. Should that hang, it is named, and all is ended.
struct Watched {
    server: Server,
    _over: Sender<()>,
}

impl Deref for Watched {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn server() -> Watched {
    server_with(Options::default())
}

fn server_with(options: Options) -> Watched {
    let test = thread::current().name().unwrap_or_default().to_owned();
    let (over, wait) = channel();
    thread::spawn(move || {
        if wait.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test}: still not over after {DEADLINE:?}");
            abort();
        }
    });
    let server = Server::embedded_with(Options { devices: Devices::Cpu, ..options }).unwrap();
    Watched { server, _over: over }
}

fn desk(server: &Server) -> Desk {
    Desk::new(Client::from_socket(server.connect().unwrap()).unwrap(), LIMITS).unwrap()
}

fn asked(size: &str, format: Option<Format>) -> Settings {
    let quality = Quality::new(90).unwrap();
    Settings { quality, format, ..Settings::new(size.parse().unwrap()) }
}

fn jpeg(width: usize, height: usize, progressive: bool) -> Vec<u8> {
    let value = |n: usize| (n % (3 * width) * 255 / (3 * width)) as u8;
    let pixels: Vec<u8> = (0..3 * width * height).map(value).collect();
    let format = PixelFormat::RGB;
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    compressor.set_progressive(progressive).unwrap();
    compressor.compress_to_vec(image).unwrap()
}

/// A JPEG for printers.
fn inks() -> Vec<u8> {
    let (width, height, format) = (16, 16, PixelFormat::CMYK);
    let image = Image { pixels: &[90; 4 * 16 * 16][..], width, pitch: 4 * width, height, format };
    turbojpeg::compress(image, 90, Subsamp::None).unwrap().to_vec()
}

/// What a JPEG's or a PNG's own header says.
fn extent(picture: &Picture<'_>) -> Extent {
    match picture.format {
        Format::Jpeg => {
            let header = turbojpeg::read_header(&picture.bytes).unwrap();
            Extent::new(header.width as u32, header.height as u32)
        }
        _ => {
            assert!(picture.bytes.starts_with(b"\x89PNG"));
            let side = |at: usize| {
                u32::from_be_bytes(picture.bytes[at..at + 4].try_into().expect("four bytes"))
            };
            Extent::new(side(16), side(20))
        }
    }
}

#[test]
fn one_desk_takes_whatever_comes() {
    let server = server();
    let mut desk = desk(&server);
    let photo = jpeg(640, 480, false);
    let png = desk.resize(&photo, &asked("320x", Some(Format::Png))).unwrap();
    assert_eq!((png.extent, extent(&png)), (Extent::new(320, 240), Extent::new(320, 240)));
    let png = png.bytes.into_owned();
    for (file, size, format, expected) in [
        (&photo, "100x100", Format::Jpeg, (100, 75)),
        (&png, "x60", Format::Png, (80, 60)),
        (&photo, "641x", Format::Jpeg, (641, 481)),
        (&photo, "100x100", Format::Jpeg, (100, 75)),
    ] {
        let picture = desk.resize(file, &asked(size, None)).unwrap();
        assert_eq!(picture.format, format, "{size}");
        assert_eq!(extent(&picture), Extent::new(expected.0, expected.1), "{size}");
        assert_eq!(picture.extent, extent(&picture), "{size}");
    }
    // The same whatever was made before, and what is kept.
    let first = desk.resize(&photo, &asked("100x100", None)).unwrap().bytes.into_owned();
    desk.trim(0);
    assert_eq!(desk.resize(&photo, &asked("100x100", None)).unwrap().bytes, first);
    let coarse = Settings { quality: Quality::new(10).unwrap(), ..asked("100x100", None) };
    assert!(desk.resize(&photo, &coarse).unwrap().bytes.len() < first.len());
    assert_eq!(desk.resize(&photo, &asked("100x100", None)).unwrap().bytes, first);
}

/// A PNG of 64 x 64 pixels of that kind, with a profile of that colour space.
fn png_of(kind: ExtendedColorType, space: &[u8; 4]) -> Vec<u8> {
    let mut profile = [7; 200];
    profile[16..20].copy_from_slice(space);
    let mut file = Vec::new();
    let mut encoder = PngEncoder::new(&mut file);
    encoder.set_icc_profile(profile.to_vec()).unwrap();
    let pixels = vec![100; 64 * 64 * usize::from(kind.channel_count())];
    encoder.write_image(&pixels, 64, 64, kind).unwrap();
    file
}

#[test]
fn a_profile_of_grays_is_kept_of_gray_pictures_only() {
    let server = server();
    let mut desk = desk(&server);
    let (gray, colour) = (b"GRAY", b"RGB ");
    for (kind, space, format, kept) in [
        (ExtendedColorType::L8, gray, Format::Png, true),
        (ExtendedColorType::L8, gray, Format::Jpeg, true),
        (ExtendedColorType::L8, gray, Format::Webp, false),
        (ExtendedColorType::La8, gray, Format::Png, false),
        (ExtendedColorType::La8, gray, Format::Jpeg, false),
        (ExtendedColorType::La8, gray, Format::Webp, false),
        (ExtendedColorType::Rgb8, colour, Format::Jpeg, true),
        (ExtendedColorType::Rgba8, colour, Format::Png, true),
        (ExtendedColorType::Rgb8, colour, Format::Webp, true),
    ] {
        let file = png_of(kind, space);
        let made = desk.resize(&file, &asked("32x", Some(format))).unwrap();
        let bytes = Cursor::new(&made.bytes[..]);
        let profile = match format {
            Format::Png => PngDecoder::new(bytes).unwrap().icc_profile().unwrap(),
            Format::Webp => WebPDecoder::new(bytes).unwrap().icc_profile().unwrap(),
            Format::Jpeg => {
                let at = made.bytes.windows(12).position(|bytes| bytes == b"ICC_PROFILE\0");
                at.map(|at| made.bytes[at + 14..][..200].to_vec())
            }
        };
        let found = profile.map(|profile| profile[16..20].to_vec());
        assert_eq!(found, kept.then(|| space.to_vec()), "{kind:?} as {format:?}");
    }
}

/// An EXIF chunk that says that the picture lies on its side: Exif 2.3, section 4.6.
const LYING: &[u8] = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";

#[test]
fn what_lies_on_its_side_is_turned_whoever_wrote_it() {
    let server = server();
    let mut desk = desk(&server);
    // With what begins such a segment of a JPEG too, as some write it.
    for exif in [LYING.to_vec(), [b"Exif\0\0", LYING].concat()] {
        let mut file = Vec::new();
        let mut encoder = WebPEncoder::new_lossless(&mut file);
        encoder.set_exif_metadata(exif.clone()).unwrap();
        encoder.write_image(&[90; 3 * 64 * 32], 64, 32, ExtendedColorType::Rgb8).unwrap();
        let made = desk.resize(&file, &asked("x64", Some(Format::Png))).unwrap();
        assert_eq!(extent(&made), Extent::new(32, 64), "{exif:?}");
    }
}

#[test]
fn a_desk_keeps_what_it_may() {
    let server = server();
    let mut desk = desk(&server);
    let photo = jpeg(640, 480, false);
    let client = Client::from_socket(server.connect().unwrap()).unwrap();
    // Of a closing the daemon learns in a moment.
    let streams = |expected: u32| {
        let begun = Instant::now();
        while client.stats().unwrap().streams != expected {
            assert!(begun.elapsed() < Duration::from_secs(60), "never {expected} streams");
            thread::sleep(Duration::from_millis(1));
        }
    };
    for width in [100, 110, 120, 130, 140] {
        desk.resize(&photo, &asked(&format!("{width}x"), None)).unwrap();
    }
    streams(4);
    // Rings of 350 to 370 kB: half of the picture's sides, and the result.
    desk.trim(800_000);
    streams(2);
    desk.trim(0);
    streams(0);
}

#[test]
fn no_picture_is_refused_for_streams_that_are_kept() {
    let limits = resized::Limits { streams: 1, ..resized::Limits::default() };
    let server = server_with(Options { limits, ..Options::default() });
    let mut desk = desk(&server);
    let photo = jpeg(640, 480, false);
    for width in [100, 110, 120, 100, 110, 120] {
        desk.resize(&photo, &asked(&format!("{width}x"), None)).unwrap();
    }
}

#[test]
fn what_is_too_large_is_refused_by_its_header() {
    let server = server();
    let mut desk = desk(&server);
    // The start of frame is 0xFFC0, ITU-T T.81, annex B.2.2.
    let mut huge = jpeg(64, 64, false);
    let frame = huge.windows(2).position(|bytes| bytes == [0xFF, 0xC0]).unwrap();
    let side = 60_000_u16.to_be_bytes();
    huge[frame + 5..frame + 9].copy_from_slice(&[side, side].concat());
    let error = desk.resize(&huge, &asked("32x", None)).unwrap_err();
    assert!(matches!(error, PictureError::Pixels { limit: 1_000_000, .. }), "{error}");
    assert_eq!(error.to_string(), "it has 60000x60000 pixels, and no more than 1000000 are read");
    let small = jpeg(64, 64, false);
    let error = desk.resize(&small, &asked("800x", None)).unwrap_err();
    assert!(matches!(error, PictureError::Made { limit: 500_000, .. }), "{error}");
    let progressive = jpeg(64, 64, true);
    let last = progressive.windows(2).rposition(|marker| marker == [0xFF, 0xDA]).unwrap();
    let (before, scan) = progressive[..progressive.len() - 2].split_at(last);
    let many = [before, &scan.repeat(LIMITS.scans as usize), &[0xFF, 0xD9]].concat();
    let error = desk.resize(&many, &asked("32x", None)).unwrap_err();
    assert!(error.to_string().contains("scans"), "{error}");
    // One without tables has none of another's.
    let bare = [&small[..2], &small[frame..]].concat();
    assert!(matches!(desk.resize(&bare, &asked("32x", None)), Err(PictureError::Jpeg(_))));
    let error = desk.resize(&inks(), &asked("32x", None)).unwrap_err();
    assert!(matches!(error, PictureError::Inks), "{error}");
    // And it goes on.
    assert_eq!(desk.resize(&small, &asked("32x", None)).unwrap().extent, Extent::new(32, 32));
}

#[test]
fn what_a_picture_takes_is_known_before() {
    let server = server();
    let mut desk = desk(&server);
    let mut bytes = |file: &[u8], size: &str| {
        // Beside a copy of the file.
        desk.plan(file, &asked(size, None)).unwrap().bytes() - file.len() as u64
    };
    let (lines, whole) = (jpeg(800, 600, false), jpeg(800, 600, true));
    assert!(bytes(&whole, "80x") >= bytes(&lines, "80x") + 6 * 800 * 600);
    assert!(bytes(&lines, "800x") >= bytes(&lines, "80x") + 20 * 790 * 590);
    // A decoder that shrinks gives few pixels.
    assert!(bytes(&lines, "80x") < 800 * 600);
}

#[test]
fn any_bytes_are_a_picture_or_an_error() {
    let server = server();
    let mut desk = desk(&server);
    let photo = jpeg(64, 48, false);
    let mut made =
        |format| desk.resize(&photo, &asked("50x40", Some(format))).unwrap().bytes.into_owned();
    let (png, webp, expected) = (made(Format::Png), made(Format::Webp), made(Format::Jpeg));
    // Numerical Recipes' generator.
    let mut state = 1_u32;
    let mut below = |end: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % end
    };
    let mut read = 0;
    for file in [photo.clone(), jpeg(64, 48, true), png, webp] {
        for _ in 0..200 {
            let mut broken = file.clone();
            for _ in 0..=below(2) {
                // Headers are where sizes are.
                let end = [40, file.len()][below(2)];
                broken[below(end)] = below(256) as u8;
            }
            if below(4) == 0 {
                broken.truncate(below(file.len()));
            }
            match desk.resize(&broken, &asked("32x32", None)) {
                Ok(picture) => {
                    assert_eq!(picture.extent.width.max(picture.extent.height), 32);
                    read += 1;
                }
                // Longer sides than frames have.
                Err(PictureError::Daemon(resized_client::Error::Refused(_))) => {}
                Err(PictureError::Daemon(error)) => panic!("{error}"),
                Err(_) => {}
            }
            // Nothing of it stays.
            let good = desk.resize(&photo, &asked("50x40", Some(Format::Jpeg)));
            assert!(good.unwrap().bytes == expected);
        }
    }
    // Some of what is wrong does not matter.
    assert!(read > 0);
}
