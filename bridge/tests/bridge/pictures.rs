//! Single pictures by NATS: they are what resizectl would have made of them, and what can't be made
//! is said in the headers that services have for it; bridges share them, and lose none that they
//! can help.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use resized_client::{Endpoint, Extent, Filter, Quality};
use resized_pictures::{Format, Mode, Settings};
use turbojpeg::Subsamp;

use crate::broker::Broker;
use crate::caller::{Caller, Headers, jpeg, made, settings};
use crate::cluster::Node;
use crate::port::free_port;
use crate::support::{Authority, Bridge, DEADLINE, Local, bounded, text, until};

/// How long a bridge that stops may take over pictures; then it refuses them.
const LAST_PICTURES: Duration = Duration::from_secs(4);

#[test]
fn pictures_are_made_as_resizectl_makes_them() {
    bounded(|| {
        let broker = Broker::start();
        let node = Node::start(&broker, &[]);
        let caller = Caller::of(&broker);
        let photo = jpeg(401, 300, Subsamp::Sub2x2, false);
        let (_, _, png) =
            made(&node, &photo, &Settings { format: Some(Format::Png), ..settings("200x") });
        assert!(png.starts_with(b"\x89PNG"));
        let full = jpeg(97, 113, Subsamp::None, true);
        let [before, errors] = caller.figures();
        let mut asked = 0;
        let mut same = |picture: &[u8], headers: Headers<'_>, settings: &Settings| {
            let expected = made(&node, picture, settings);
            assert!(caller.ask(picture, headers).unwrap() == expected, "{headers:?}");
            asked += 1;
            expected
        };
        for picture in [&photo, &png, &full] {
            same(picture, &[("Size", "64x64")], &settings("64x64"));
            let mut other = settings("50x20");
            other.wish.mode = Mode::Fill;
            let (_, size, _) = same(picture, &[("Size", "50x20"), ("Mode", "fill")], &other);
            assert_eq!(size, "50x20");
            let other = Settings {
                filter: Filter::Lanczos3,
                quality: Quality::new(40).unwrap(),
                format: Some(Format::Jpeg),
                ..settings("x31")
            };
            let headers =
                [("size", "x31"), ("filter", "lanczos3"), ("quality", "40"), ("format", "jpeg")];
            let (_, size, bytes) = same(picture, &headers, &other);
            let header = turbojpeg::read_header(&bytes).unwrap();
            assert_eq!(size, Extent::new(header.width as u32, header.height as u32).to_string());
            assert_eq!(header.height, 31);
            let other = Settings { format: Some(Format::Png), ..settings("30x") };
            let (format, ..) = same(picture, &[("Size", "30x"), ("Format", "png")], &other);
            assert_eq!(format, "png");
        }
        assert_eq!(caller.figures(), [before + asked, errors]);
    });
}

/// The checksum of a PNG's chunk, of its type and its data: Portable Network Graphics (third edition), annex D.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 0 { crc >> 1 } else { 0xEDB8_8320 ^ (crc >> 1) }
        })
    })
}

#[test]
fn what_can_not_be_made_is_said() {
    bounded(|| {
        let broker = Broker::start();
        let _node = Node::start(&broker, &["--megapixels", "1"]);
        let caller = Caller::of(&broker);
        let photo = jpeg(200, 200, Subsamp::Sub2x2, false);
        // Pictures that say that they are huge: the start of frame is 0xFFC0, ITU-T T.81, annex B.2.2.
        let mut bomb = photo.clone();
        let frame = bomb.windows(2).position(|bytes| bytes == [0xFF, 0xC0]).unwrap();
        let side = 60_000_u16.to_be_bytes();
        bomb[frame + 5..frame + 9].copy_from_slice(&[side, side].concat());
        let (_, _, mut png) = caller.ask(&photo, &[("Size", "9x9"), ("Format", "png")]).unwrap();
        // The header's chunk, and its checksum: the same, 11.2.1.
        let side = 60_000_u32.to_be_bytes();
        png[16..24].copy_from_slice(&[side, side].concat());
        let checksum = crc(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&checksum);
        // The header of a lossless one, 14 bits for each side less one: RFC 9649, 3.4.
        let sides = (0x3FFE_u32 | 0x3FFE << 14).to_le_bytes();
        let webp = [&b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f"[..], &sides, &[0; 13]].concat();
        let scans = {
            let file = jpeg(64, 64, Subsamp::Sub2x2, true);
            let last = file.windows(2).rposition(|marker| marker == [0xFF, 0xDA]).unwrap();
            let (before, scan) = file[..file.len() - 2].split_at(last);
            [before, &scan.repeat(200), &[0xFF, 0xD9]].concat()
        };
        let long = jpeg(16, 16, Subsamp::Gray, false);
        let size = &[("Size", "64x64")][..];
        let before = caller.figures();
        let said: [(&[u8], Headers<'_>, usize, &str); 17] = [
            (&photo, &[], 400, "a header Size is needed, such as 640x360"),
            (&photo, &[("Size", "64")], 400, "Size: write WIDTHxHEIGHT, like 640x360"),
            (&photo, &[("Size", "16385x")], 400, "Size: a picture has at most 16384 pixels a side"),
            (&photo, &[("Size", "1x1"), ("Mode", "crop")], 400, "Mode: 'crop' is no mode"),
            (&photo, &[("Size", "1x1"), ("Filter", "best")], 400, "Filter: 'best' is no filter"),
            (
                &photo,
                &[("Size", "1x1"), ("Quality", "0")],
                400,
                "Quality: '0' is no quality of a JPEG: write a number from 1 to 100",
            ),
            (&photo, &[("Size", "1x1"), ("Format", "gif")], 400, "Format: 'gif' is no format"),
            (&photo, &[("Size", "1x1"), ("size", "2x2")], 400, "there is more than one header"),
            (b"", size, 400, "it is no JPEG, PNG or WebP file"),
            (b"GIF89a, which is none", size, 400, "it is no JPEG, PNG or WebP file"),
            (&photo[..photo.len() / 2], size, 400, "Premature end of JPEG file"),
            (&scans, size, 400, ""),
            (&bomb, size, 413, "it has 60000x60000 pixels, and no more than 1000000 are read"),
            (&png, size, 413, "it has 60000x60000 pixels, and no more than 1000000 are read"),
            (&webp, size, 413, "it has 16383x16383 pixels, and no more than 1000000 are read"),
            (&photo, &[("Size", "1001x1001")], 413, "it would become 1001x1001, and no more"),
            (&long, &[("Size", "2000x2000")], 413, "it would become 2000x2000, and no more"),
        ];
        for (picture, headers, code, start) in &said {
            let refused = caller.ask(picture, headers).unwrap_err();
            assert!(refused.0 == *code && refused.1.starts_with(start), "{headers:?}: {refused:?}");
        }
        let count = said.len();
        assert_eq!(caller.figures(), before.map(|figure| figure + count));
        // Bytes that mean nothing, and a picture among the bad ones.
        let padded = [&photo[..2], &vec![0xFF; 900_000], &photo[2..]].concat();
        let (plain, padded) = (caller.ask(&photo, size), caller.ask(&padded, size));
        assert!(plain.is_ok() && plain == padded);
    });
}

#[test]
fn a_reply_that_would_be_too_long_is_an_error() {
    bounded(|| {
        let broker = Broker::start();
        let _node = Node::start(&broker, &[]);
        let caller = Caller::of(&broker);
        let photo = jpeg(200, 200, Subsamp::None, false);
        let headers = [("Size", "1200x1200"), ("Format", "png")];
        let (code, text) = caller.ask(&photo, &headers).unwrap_err();
        assert_eq!(code, 413);
        // As nats-server is by default, but for what headers may take.
        let most = 1024 * 1024 - 256;
        assert!(
            text.starts_with("the picture made has ") && text.contains(&most.to_string()),
            "{text}"
        );
        let (_, _, small) = caller.ask(&photo, &[("Size", "120x120"), ("Format", "png")]).unwrap();
        assert!(small.len() < most);
    });
}

#[test]
fn a_reply_that_is_too_long_for_another_server_is_an_error() {
    bounded(|| {
        let files = Authority::new();
        let config = files.write("nats.conf", "max_payload: 4096\n");
        let mut broker = Broker::start_at((Ipv4Addr::LOCALHOST, free_port()).into());
        let mut node = Node::start(&broker, &PATIENT);
        let caller = Caller::of(&broker);
        let photo = jpeg(200, 200, Subsamp::None, false);
        let headers = [("Size", "100x100"), ("Format", "png")];
        // It is made when the bridge has moved.
        node.local.stop();
        let mut answers = caller.ask_all(&photo, &headers, 1, || {
            broker.kill();
            let flags = ["--config", text(&config)];
            broker.process = Broker::spawn(broker.folder.path(), broker.address, &flags);
            broker.listens("nats");
            until("the bridge has joined again", || caller.try_ask(b"", &[]).is_ok());
            node.local.start_again();
        });
        let (code, text) = answers.remove(0).1.unwrap_err();
        assert!(code == 413 && text.contains("no more than 3840"), "{code} {text}");
    });
}

/// Where what is asked for is to be made in the end, however loaded the machine is.
const PATIENT: [&str; 2] = ["--picture-patience", "60"];

#[test]
fn who_finds_no_place_is_told_and_who_has_one_is_served() {
    /// At work and waiting, for one lane.
    const PLACES: usize = 17;
    bounded(|| {
        let broker = Broker::start();
        let mut node = Node::start(&broker, &[&PATIENT[..], &["--pictures", "1"]].concat());
        let caller = Caller::of(&broker);
        let photo = jpeg(200, 200, Subsamp::Sub2x2, false);
        let expected = made(&node, &photo, &settings("64x"));
        // Nothing gets on while there is no daemon.
        node.local.stop();
        let [_, errors] = caller.figures();
        let answers = caller.ask_all(&photo, &[("Size", "64x")], PLACES + 3, || {
            until("some are turned away", || caller.figures()[1] == errors + 3);
            node.local.start_again();
        });
        let busy = (503, "this bridge is busy: ask again".to_owned());
        let mut turned_away: Vec<_> = answers
            .iter()
            .filter(|(_, said)| *said == Err(busy.clone()))
            .map(|(n, _)| *n)
            .collect();
        turned_away.sort_unstable();
        assert_eq!(turned_away, [PLACES, PLACES + 1, PLACES + 2]);
        for (number, said) in answers.into_iter().filter(|(number, _)| *number < PLACES) {
            assert!(said == Ok(expected.clone()), "{number}: {:?}", said.unwrap_err());
        }
        assert!(caller.ask(&photo, &[("Size", "64x")]) == Ok(expected));
    });
}

#[test]
fn who_finds_no_place_is_told_however_many_have_one() {
    /// At work and waiting, for so many lanes.
    const PLACES: usize = 17 * 40;
    bounded(|| {
        let broker = Broker::start();
        let mut node = Node::start(&broker, &[&PATIENT[..], &["--pictures", "40"]].concat());
        let caller = Caller::of(&broker);
        let photo = jpeg(40, 30, Subsamp::Sub2x2, false);
        let expected = made(&node, &photo, &settings("8x"));
        node.local.stop();
        let answers = caller.ask_all(&photo, &[("Size", "8x")], PLACES + 9, || {
            node.local.start_again();
        });
        let (made, turned_away): (Vec<_>, Vec<_>) =
            answers.into_iter().map(|(_, said)| said).partition(Result::is_ok);
        assert!(made.len() > PLACES - 9 && made.iter().all(|said| *said == Ok(expected.clone())));
        let busy = Err((503, "this bridge is busy: ask again".to_owned()));
        assert!(!turned_away.is_empty() && turned_away.iter().all(|said| *said == busy));
    });
}

#[test]
fn a_daemon_that_is_away_is_not_waited_for_for_ever() {
    bounded(|| {
        let broker = Broker::start();
        let mut node = Node::start(&broker, &["--pictures", "2"]);
        let caller = Caller::of(&broker);
        let photo = jpeg(200, 200, Subsamp::Sub2x2, false);
        let size = [("Size", "64x")];
        for _ in 0..2 {
            // Once before the bridge knows the daemon, and once after.
            node.local.stop();
            assert_eq!(caller.ask(&photo, &size).unwrap_err().0, 503);
            node.local.start_again();
            let expected = made(&node, &photo, &settings("64x"));
            assert!(caller.ask(&photo, &size) == Ok(expected));
        }
    });
}

#[test]
fn a_daemon_that_is_away_is_waited_for_by_all_who_ask() {
    bounded(|| {
        let broker = Broker::start();
        let mut node = Node::start(&broker, &[&PATIENT[..], &["--pictures", "2"]].concat());
        let caller = Caller::of(&broker);
        let photo = jpeg(200, 200, Subsamp::Sub2x2, false);
        let size = [("Size", "64x")];
        node.local.stop();
        let answers = caller.ask_all(&photo, &size, 4, || node.local.start_again());
        let expected = made(&node, &photo, &settings("64x"));
        assert!(answers.into_iter().all(|(_, said)| said == Ok(expected.clone())));
    });
}

#[test]
fn bridges_share_pictures_and_one_that_is_killed_costs_a_second_request() {
    bounded(|| {
        let broker = Broker::start();
        let mut nodes = [(); 2].map(|()| Node::start(&broker, &[]));
        drop(Caller::of(&broker));
        let photo = jpeg(200, 200, Subsamp::Sub2x2, false);
        let expected = made(&nodes[0], &photo, &settings("64x"));
        let caller = Caller::new(&broker, Duration::from_secs(1));
        let size = [("Size", "64x")];
        let frames = |node: &Node| node.local.client().stats().unwrap().devices[0].frames;
        let before = nodes.each_ref().map(frames);
        until("both are asked", || {
            assert!(caller.ask(&photo, &size) == Ok(expected.clone()));
            nodes.iter().zip(before).all(|(node, before)| frames(node) > before + 2)
        });
        let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let caller = Caller::new(&broker, Duration::from_secs(1));
                    while !over.load(Ordering::Relaxed) {
                        match caller.try_ask(&photo, &size) {
                            Ok(said) => {
                                assert!(said.as_ref() == Ok(&expected), "{:?}", said.err());
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            // It was on its way to the one that was killed: again.
                            Err(RequestErrorKind::TimedOut) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                });
            }
            let they_get_on = || {
                let before = done.load(Ordering::Relaxed);
                until("they get on", || done.load(Ordering::Relaxed) > before + 40);
            };
            they_get_on();
            nodes[1].bridge.kill();
            they_get_on();
            over.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn a_bridge_that_stops_makes_what_has_come() {
    bounded(|| {
        let broker = Broker::start();
        let mut node = Node::start(&broker, &["--pictures", "1"]);
        let caller = Caller::of(&broker);
        let photo = jpeg(40, 30, Subsamp::None, false);
        let size = [("Size", "30x")];
        let expected = made(&node, &photo, &settings("30x"));
        let mut stopped = Duration::ZERO;
        let answers = caller.ask_all(&photo, &size, 17, || {
            let begun = Instant::now();
            node.bridge.stop();
            stopped = begun.elapsed();
        });
        let any = answers.iter().any(|(_, said)| said.is_ok());
        assert!(any || stopped >= LAST_PICTURES, "none was made, after {stopped:?}");
        for (number, said) in answers {
            match said {
                Ok(picture) => assert!(picture == expected, "{number}: another picture"),
                // On a machine that is so busy that small ones were not made in time.
                Err((code, why)) => assert!(
                    stopped >= LAST_PICTURES && code == 503 && why.contains("busy"),
                    "{number}: {code} {why} after {stopped:?}"
                ),
            }
        }
        assert_eq!(caller.try_ask(&photo, &size), Err(RequestErrorKind::NoResponders));
    });
}

#[test]
fn a_bridge_that_stops_refuses_what_it_can_not_make_in_time() {
    bounded(|| {
        let (broker, mut local) = (Broker::start(), Local::start());
        // A daemon that hears nobody.
        local.stop();
        let Endpoint::Unix(path) = local.endpoint() else { unreachable!() };
        let _ = std::fs::remove_file(&path);
        let _deaf = UnixListener::bind(&path).unwrap();
        let flags = ["--nats", &broker.url(), "--pictures", "1"];
        let mut bridge = Bridge::start(&local, &flags);
        let caller = Caller::new(&broker, DEADLINE / 2);
        until("it takes pictures", || {
            let stats = caller.nats.request("$SRV.STATS.resized", "".into());
            let stats = caller.runtime.block_on(stats);
            stats.is_ok_and(|stats| stats.payload.windows(7).any(|word| word == b"picture"))
        });
        let photo = jpeg(40, 30, Subsamp::None, false);
        let answers = caller.ask_all(&photo, &[("Size", "30x")], 3, || bridge.stop());
        for (number, said) in answers {
            let (code, why) = said.unwrap_err();
            assert!(code == 503 && why.contains("busy"), "{number}: {code} {why}");
        }
    });
}

#[test]
fn a_bridge_may_take_none() {
    bounded(|| {
        let broker = Broker::start();
        let node = Node::start(&broker, &["--pictures", "0"]);
        let caller = Caller::new(&broker, DEADLINE / 2);
        until("the bridge has joined", || {
            let ping = caller.nats.request("$SRV.PING.resized", "".into());
            caller.runtime.block_on(ping).is_ok()
        });
        assert_eq!(caller.try_ask(b"", &[]), Err(RequestErrorKind::NoResponders));
        drop(node);
    });
}
