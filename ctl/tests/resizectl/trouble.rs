//! `resizectl resize` where something goes wrong, or is unusual: files, daemons, signals, who reads what it
//! says.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use resized::Limits;
use turbojpeg::Subsamp;

use crate::shop::{Service, Shop, jpeg, mute, scenery};

#[test]
fn a_bad_picture_is_named_and_the_others_go_on() {
    let shop = Shop::new();
    let good = jpeg(&scenery(320, 200), Subsamp::Sub2x2);
    let png = {
        scenery(64, 64).save(shop.path("good.png")).unwrap();
        fs::read(shop.path("good.png")).unwrap()
    };
    for name in ["good1.jpg", "good2.jpg"] {
        shop.file(name, &good);
    }
    shop.file("truncated.jpg", &good[..good.len() / 2]);
    shop.file("header.jpg", &good[..100]);
    shop.file("cut.png", &png[..png.len() / 2]);
    shop.file("empty.png", b"");
    shop.file("text.jpg", b"no picture");
    fs::create_dir(shop.path("folder.jpg")).unwrap();
    // Pictures that say that they are huge: the start of frame is 0xFFC0, ITU-T T.81, annex B.2.2.
    let mut huge = good.clone();
    let frame = huge.windows(2).position(|bytes| bytes == [0xFF, 0xC0]).unwrap();
    huge[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    shop.file("huge.jpg", &huge);
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
    // The check sum of the header chunk, CRC-32 as in PNG, annex D.
    let crc = huge[12..29].iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    huge[29..33].copy_from_slice(&(!crc).to_be_bytes());
    shop.file("huge.png", &huge);
    let bad = [
        ("truncated.jpg", "Premature end of JPEG file"),
        ("header.jpg", ""),
        ("cut.png", ""),
        ("empty.png", "it is empty"),
        ("text.jpg", "it is no JPEG, PNG or WebP file"),
        ("folder.jpg", "it is a folder: name its pictures, folder.jpg/*.jpg"),
        ("huge.jpg", "it has 65500x65500 pixels, more than --max-megapixels 200 allows"),
        ("huge.png", "it has 65535x65535 pixels, more than --max-megapixels 200 allows"),
        ("missing.jpg", "can't read it: No such file or directory"),
    ];
    let names: Vec<_> = bad.iter().map(|(name, _)| *name).collect();
    let said = shop
        .bad(&format!("resize good1.jpg {} good2.jpg good.png -s 64x -o out/", names.join(" ")));
    for (name, why) in bad {
        let start = format!("resizectl: {name}: {why}");
        assert!(said.lines().any(|line| line.starts_with(&start)), "{start}\n{said}");
    }
    assert!(said.contains("3 of 12 pictures resized, 9 failed"), "{said}");
    let mut written: Vec<_> =
        fs::read_dir(shop.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    written.sort();
    assert_eq!(written, ["good.png", "good1.jpg", "good2.jpg"]);
}

#[test]
fn nobody_who_reads_what_is_said_is_no_reason_to_end() {
    let shop = Shop::new();
    shop.file("good.jpg", &jpeg(&scenery(64, 64), Subsamp::Sub2x2));
    shop.file("bad.jpg", b"no picture");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let line = "resize bad.jpg bad.jpg bad.jpg good.jpg -j 2 -s 32x -o {n}.png";
    let status = shop.command().args(line.split_whitespace()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(shop.picture("4.png").width(), 32);
}

#[test]
fn a_dash_is_what_is_open_already() {
    let shop = Shop::new();
    shop.file("a.jpg", &jpeg(&scenery(64, 64), Subsamp::Sub2x2));
    let mut command = shop.bounded();
    command.args(["resize", "-", "-s", "32x", "--format", "png", "-o", "-"]);
    let output = command.stdin(fs::File::open(shop.path("a.jpg")).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(image::load_from_memory(&output.stdout).unwrap().width(), 32);
    assert!(!shop.path("-").exists());
    // Sockets, which can't be opened by a name.
    let [(mut ours, theirs), (mut made, making)] = [(); 2].map(|()| UnixStream::pair().unwrap());
    command.stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(making));
    let mut program = command.spawn().unwrap();
    drop(command);
    ours.write_all(&fs::read(shop.path("a.jpg")).unwrap()).unwrap();
    drop(ours);
    let mut file = Vec::new();
    made.read_to_end(&mut file).unwrap();
    assert!(program.wait().unwrap().success());
    assert_eq!(image::load_from_memory(&file).unwrap().width(), 32);
}

#[test]
fn a_folder_is_no_picture() {
    let shop = Shop::new();
    let said = shop.bad("resize . -s 32x -o out/");
    assert_eq!(said, "resizectl: .: it is a folder: name its pictures, ./*.jpg\n");
}

#[test]
fn bytes_that_mean_nothing_do_no_harm() {
    let shop = Shop::new();
    let good = jpeg(&scenery(320, 200), Subsamp::Sub2x2);
    let (pixels, end) = good.split_at(good.len() - 2);
    shop.file("odd.jpg", &[pixels, &[0x11; 9], end].concat());
    shop.file("good.jpg", &good);
    for name in ["odd", "good"] {
        shop.good(&format!("resize {name}.jpg -s 64x -o {name}.png"));
    }
    assert_eq!(shop.picture("odd.png"), shop.picture("good.png"));
}

#[test]
fn results_that_can_not_be_written_are_named() {
    let shop = Shop::new();
    shop.file("a.jpg", &jpeg(&scenery(64, 64), Subsamp::Sub2x2));
    let said = shop.bad("resize a.jpg -s 32x -o /dev/full");
    assert!(said.starts_with("resizectl: a.jpg: can't write /dev/full: No space left"), "{said}");
    let said = shop.bad("resize a.jpg -s 32x -o no/such/b.jpg");
    assert!(
        said.starts_with("resizectl: a.jpg: can't write no/such/b.jpg: No such file"),
        "{said}"
    );
    let said = shop.bad("resize a.jpg -s 32x -o a.jpg");
    assert!(
        said.starts_with("resizectl: a.jpg would take the place of the picture a.jpg"),
        "{said}"
    );
    let said = shop.bad("resize a.jpg -s 32x -o a.jpg/");
    assert!(said.starts_with("resizectl: can't make the folder a.jpg/"), "{said}");
}

#[test]
fn a_daemon_that_runs_is_used_and_one_that_does_not_is_named() {
    let shop = Shop::new();
    let mut service = Service::start();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        shop.file(name, &jpeg(&scenery(320, 200), Subsamp::Sub2x2));
    }
    let line = format!("resize a.jpg b.jpg c.jpg -s 64x -o out/ --connect {}", service.endpoint());
    shop.good(&line);
    assert_eq!(service.client().stats().unwrap().devices[0].frames, 3);
    service.stop();
    let said = shop.bad(&line);
    let endpoint = service.endpoint();
    let place = format!("resizectl: can't connect to {endpoint}: ");
    let advice = format!("; resizectl doctor --connect {endpoint} says what to do about it\n");
    assert!(said.starts_with(&place) && said.ends_with(&advice), "{said}");
    // Nor is anything made for it, or said to who was not told where it is.
    shop.bad(&format!("resize a.jpg -s 64x -o new/ --connect {endpoint}"));
    assert!(!shop.path("new").exists());
    let mut command = shop.command();
    command.args(["resize", "a.jpg", "-s", "64x", "-o", "new/"]).env("RESIZED_ENDPOINT", endpoint);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.ends_with("; resizectl doctor says what to do about it\n"), "{said}");
    assert!(!shop.path("new").exists());
}

#[test]
fn who_finds_no_room_leaves_the_pictures_to_the_others() {
    let shop = Shop::new();
    let names: Vec<_> = (0..8).map(|number| format!("{number}.jpg")).collect();
    for name in &names {
        shop.file(name, &jpeg(&scenery(320, 200), Subsamp::Sub2x2));
    }
    let line = format!("resize {} -s 64x -o out/ -j 4 --connect", names.join(" "));
    let with = |connections| Service::with(Limits { connections, ..Limits::default() });
    let service = with(2);
    shop.good(&format!("{line} {}", service.endpoint()));
    assert_eq!(fs::read_dir(shop.path("out")).unwrap().count(), 8);
    // Unless nobody finds any.
    let service = with(1);
    let _only = service.client();
    let said = shop.bad(&format!("{line} {}", service.endpoint()));
    assert!(said.starts_with("resizectl: refused: "), "{said}");
}

#[test]
fn a_signal_leaves_whole_pictures_and_nothing_else() {
    let shop = Shop::new();
    let picture = jpeg(&scenery(1603, 1205), Subsamp::Sub2x2);
    let names: Vec<_> = (0..500).map(|number| format!("{number}.jpg")).collect();
    for name in &names {
        shop.file(name, &picture);
    }
    let mut command = shop.bounded();
    let mut run =
        command.args(["resize", "-q", "-s", "640x", "-o", "out/"]).args(&names).spawn().unwrap();
    let written = || fs::read_dir(shop.path("out")).map_or(0, Iterator::count);
    while written() < 2 && run.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(written() < names.len());
    for entry in fs::read_dir(shop.path("out")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert_eq!(shop.picture(&format!("out/{name}")).width(), 640, "{name}");
    }
}

#[test]
fn who_waits_for_a_pipe_heeds_a_signal() {
    let shop = Shop::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = shop.bounded();
    command.args(["resize", "-", "-s", "64x", "--format", "png", "-o", "out"]).stdin(reader);
    let program = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    // Once it reads, the pipe is emptied.
    (&writer).write_all(&vec![0; 1 << 17]).unwrap();
    assert!(Command::new("kill").arg(program.id().to_string()).status().unwrap().success());
    let output = program.wait_with_output().unwrap();
    drop(writer);
    assert_eq!(output.status.code(), Some(128 + 15), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let is_told = said.starts_with("0 of 1 pictures resized, ") && said.lines().count() == 1;
    assert!(is_told && said.ends_with(" a second; stopped by a signal\n"), "{said}");
}

#[test]
fn who_waits_for_a_daemon_that_hangs_heeds_a_signal() {
    let shop = Shop::new();
    shop.file("a.jpg", &jpeg(&scenery(64, 64), Subsamp::Sub2x2));
    let endpoint = mute(&shop, "cpu");
    let mut command = shop.bounded();
    command.args(["resize", "a.jpg", "-s", "32x", "-o", "out/", "--connect", &endpoint]);
    let mut program = command.stderr(Stdio::piped()).spawn().unwrap();
    while !shop.path("out").exists() && program.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Then it waits; where it does not yet, this is easier for it.
    std::thread::sleep(std::time::Duration::from_millis(300));
    // Passed on to it.
    Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap();
    let output = program.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.starts_with("0 of 1 pictures resized, "), "{said}");
    assert_eq!(fs::read_dir(shop.path("out")).unwrap().count(), 0);
}
