//! `resizectl resize`.

use std::fs;
use std::io::{Seek, SeekFrom};

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, Luma, Rgba, RgbaImage};
use turbojpeg::Subsamp;

use crate::shop::{Shop, difference, jpeg, scenery, with_segment};

/// What Catmull-Rom, antialiased, makes of a picture.
fn expected(picture: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    imageops::resize(&picture.to_rgb8(), width, height, FilterType::CatmullRom).into()
}

#[test]
fn every_format_becomes_every_format() {
    let shop = Shop::new();
    let scene = scenery(321, 241);
    for (name, subsamp) in
        [("half", Subsamp::Sub2x2), ("quarter", Subsamp::Sub2x1), ("full", Subsamp::None)]
    {
        shop.file(&format!("{name}.jpg"), &jpeg(&scene, subsamp));
    }
    let gray = imageops::grayscale(&scene);
    let grey_jpeg = jpeg(&DynamicImage::from(gray.clone()).to_rgb8(), Subsamp::Gray);
    shop.file("gray.jpg", &grey_jpeg);
    gray.save(shop.path("grays.png")).unwrap();
    scene.save(shop.path("colours.png")).unwrap();
    scene.save(shop.path("web.webp")).unwrap();
    DynamicImage::from(scene.clone()).to_rgb16().save(shop.path("deep.png")).unwrap();
    let coloured = "half.jpg quarter.jpg full.jpg colours.png web.webp deep.png";
    for ending in ["jpg", "png", "webp"] {
        shop.good(&format!(
            "resize {coloured} gray.jpg grays.png -s 101x -o {{name}}-{ending}.{ending}"
        ));
        for name in coloured.split(' ') {
            let name = format!("{}-{ending}.{ending}", name.split('.').next().unwrap());
            let off = difference(&shop.picture(&name), &expected(&scene.clone().into(), 101, 76));
            assert!(off < 2.0, "{name}: {off}");
        }
        for name in ["gray", "grays"] {
            let name = format!("{name}-{ending}.{ending}");
            let off = difference(&shop.picture(&name), &expected(&gray.clone().into(), 101, 76));
            assert!(off < 2.0, "{name}: {off}");
        }
    }
    let gray = turbojpeg::read_header(&fs::read(shop.path("gray-jpg.jpg")).unwrap()).unwrap();
    assert_eq!(gray.subsamp, Subsamp::Gray);
}

#[test]
fn webps_of_every_kind_are_read() {
    let shop = Shop::new();
    let scene = scenery(160, 120);
    scene.save(shop.path("colours.png")).unwrap();
    let clear = RgbaImage::from_fn(160, 120, |x, y| {
        let image::Rgb([r, g, b]) = *scene.get_pixel(x, y);
        Rgba([r, g, b, if x < 80 { 255 } else { 128 }])
    });
    clear.save(shop.path("clear.png")).unwrap();
    // Of an animation the first picture.
    let made = |options: &str, name: &str| {
        let mut command = std::process::Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin"]).args(options.split(' ')).args(["-quality", "95"]);
        let status = command.arg(shop.path(name)).current_dir(shop.path(".")).status();
        assert!(status.expect("the ffmpeg tool is needed").success(), "{name}");
        fs::read(shop.path(name)).unwrap()
    };
    let moving = "-loop 1 -i colours.png -vf negate=enable='gt(n,0)' -frames:v 3 -c:v libwebp_anim";
    let lossy = made("-i colours.png -c:v libwebp", "lossy.webp");
    let clear = made("-i clear.png -c:v libwebp -pix_fmt yuva420p", "clear.webp");
    let moving = made(moving, "moving.webp");
    for (file, kind) in [(&lossy, b"VP8 "), (&clear, b"ALPH"), (&moving, b"ANMF")] {
        assert!(file.windows(4).any(|bytes| bytes == kind));
    }
    let line = "resize lossy.webp clear.webp moving.webp -s 64x -o {name}-out.png";
    let said = shop.run(line).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains("moving.webp: only the first picture of the animation is kept\n"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(shop.run(&format!("{line} -q")).stderr.is_empty());
    made("-loop 1 -i colours.png -vf negate=enable='gt(n,0)' -frames:v 3 -f apng", "moving.png");
    let said = shop.run("resize moving.png colours.png -s 64x -o {name}-moved.png").stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains("moving.png: only the first picture of the animation is kept\n"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    let expected = expected(&scene.into(), 64, 48);
    for name in ["lossy", "moving"] {
        let off = difference(&shop.picture(&format!("{name}-out.png")), &expected);
        assert!(off < 4.0, "{name}: {off}");
    }
    let opacity = |x| shop.picture("clear-out.png").to_rgba8().get_pixel(x, 20).0[3];
    // Of which it lost a little.
    assert!(opacity(10) == 255 && opacity(50).abs_diff(128) < 4, "{}", opacity(50));
}

#[test]
fn a_webp_that_lies_is_named_and_the_others_go_on() {
    let shop = Shop::new();
    scenery(64, 64).save(shop.path("good.webp")).unwrap();
    let chunk = |name: &[u8], len: u32, body: &[u8]| [name, &len.to_le_bytes(), body].concat();
    // A canvas of 64x64, and a profile, of which the header says that there is one.
    let canvas = chunk(b"VP8X", 10, &[0x20, 0, 0, 0, 63, 0, 0, 63, 0, 0]);
    let frame = [0x10, 0, 0, 0x9D, 1, 0x2A, 0xFF, 0x3F, 0xFF, 0x3F, 0, 0];
    for (name, rest) in [
        ("frame.webp", chunk(b"VP8 ", 12, &frame)),
        ("profile.webp", [chunk(b"VP8L", 2, b"/\0"), chunk(b"ICCP", u32::MAX - 1, b"")].concat()),
    ] {
        let body = [b"WEBP", &canvas[..], &rest].concat();
        shop.file(name, &chunk(b"RIFF", body.len() as u32, &body));
    }
    let said = shop.bad("resize frame.webp profile.webp good.webp -s 32x -o out/");
    for name in ["frame", "profile"] {
        let why =
            format!("resizectl: {name}.webp: its chunks or its frame are not as large as it says");
        assert!(said.contains(&why), "{said}");
    }
    assert_eq!(shop.picture("out/good.webp").width(), 32);
}

#[test]
fn what_a_file_is_called_does_nothing_to_a_terminal() {
    let shop = Shop::new();
    let name = "red\u{1b}[31m\nresizectl: good.jpg: deleted.jpg";
    shop.file(name, b"no picture");
    let output = shop.command().args(["resize", name, "-s", "9x", "-o", "out/"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "resizectl: red\\u{1b}[31m\\nresizectl: good.jpg: deleted.jpg: it is no JPEG";
    assert!(said.starts_with(expected) && said.lines().count() == 2, "{said}");
}

#[test]
fn what_the_decoder_shrinks_looks_the_same() {
    let shop = Shop::new();
    for (name, subsamp) in [("a.jpg", Subsamp::Sub2x2), ("b.jpg", Subsamp::None)] {
        let scene = scenery(1603, 1205);
        shop.file(name, &jpeg(&scene, subsamp));
        for width in [640, 401, 99] {
            shop.good(&format!("resize {name} -s {width}x -o out.png"));
            let out = shop.picture("out.png");
            let off = difference(&out, &expected(&scene.clone().into(), width, out.height()));
            assert!(off < 1.5, "{name} {width}: {off}");
        }
    }
}

/// Exif with nothing but an orientation: TIFF 6.0, section 2; one entry, tag 0x0112.
fn exif(orientation: u8) -> Vec<u8> {
    let tiff = [
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(),
        &[orientation, 0, 0, 0],
        &[0; 4],
    ];
    [b"Exif\0\0".as_slice(), &tiff.concat()].concat()
}

#[test]
fn pictures_are_turned_upright() {
    let shop = Shop::new();
    let plain = jpeg(&scenery(320, 200), Subsamp::Sub2x2);
    shop.file("plain.jpg", &plain);
    shop.good("resize plain.jpg -s 79x50 --mode stretch -o plain.png");
    for number in 1..=8 {
        let held = shop.file("held.jpg", &with_segment(&plain, 0xE1, &exif(number)));
        let orientation = Orientation::from_exif(number).unwrap();
        let size = if number < 5 { "79x50" } else { "50x79" };
        let mut upright = shop.picture("plain.png");
        upright.apply_orientation(orientation);
        for out in ["out.png", "out.jpg"] {
            shop.good(&format!(
                "resize {} -s {size} --mode stretch --quality 95 -o {out}",
                held.display()
            ));
            let off = difference(&shop.picture(out), &upright);
            assert!(off < 2.0, "{out}, orientation {number}: {off}");
        }
        // Not twice.
        let written = fs::read(shop.path("out.jpg")).unwrap();
        assert!(!written.windows(6).any(|bytes| bytes == b"Exif\0\0"));
    }
}

#[test]
fn colour_profiles_are_kept() {
    let shop = Shop::new();
    // More than one segment holds.
    let profile: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let mut file = jpeg(&scenery(64, 64), Subsamp::Sub2x2);
    for (number, part) in [(2, &profile[60_000..]), (1, &profile[..60_000])] {
        let head = [b"ICC_PROFILE\0".as_slice(), &[number, 2]].concat();
        file = with_segment(&file, 0xE2, &[&head, part].concat());
    }
    shop.file("a.jpg", &file);
    let in_png = |name: &str| {
        let file = std::io::Cursor::new(fs::read(shop.path(name)).unwrap());
        image::codecs::png::PngDecoder::new(file).unwrap().icc_profile().unwrap().unwrap()
    };
    // From one to the next.
    for (from, to) in [
        ("a.jpg", "b.png"),
        ("b.png", "c.jpg"),
        ("c.jpg", "d.webp"),
        ("d.webp", "e.jpg"),
        ("e.jpg", "f.png"),
    ] {
        shop.good(&format!("resize {from} -s 32x32 -o {to}"));
    }
    assert!(in_png("b.png") == profile && in_png("f.png") == profile);
}

#[test]
fn modes_and_crops_choose_what_is_seen() {
    let shop = Shop::new();
    let quarters = image::RgbImage::from_fn(200, 100, |x, y| {
        image::Rgb(match (x < 100, y < 50) {
            (true, true) => [255, 0, 0],
            (false, true) => [0, 255, 0],
            (true, false) => [0, 0, 255],
            (false, false) => [255, 255, 255],
        })
    });
    quarters.save(shop.path("q.png")).unwrap();
    let run = |options: &str| {
        shop.good(&format!("resize q.png {options} -o out.png"));
        shop.picture("out.png").to_rgb8()
    };
    assert_eq!(run("-s 50x50").dimensions(), (50, 25));
    assert_eq!(run("-s 400x400 --only-shrink").dimensions(), (200, 100));
    let stretched = run("-s 50x50 --mode stretch");
    assert_eq!((stretched.dimensions(), stretched.get_pixel(2, 2).0), ((50, 50), [255, 0, 0]));
    let filled = run("-s 50x50 --mode fill");
    assert_eq!((filled.dimensions(), filled.get_pixel(40, 40).0), ((50, 50), [255, 255, 255]));
    let padded = run("-s 50x50 --pad 0a80ff");
    assert_eq!(padded.dimensions(), (50, 50));
    for (x, y, colour) in [(2, 11, [10, 128, 255]), (2, 13, [255, 0, 0]), (48, 36, [255; 3])] {
        assert_eq!(padded.get_pixel(x, y).0, colour, "{x} {y}");
    }
    assert_eq!(padded.get_pixel(48, 39).0, [10, 128, 255]);
    assert_eq!(run("-s 400x400 --pad ffffff --only-shrink").dimensions(), (200, 200));
    // Gray has no room for a colour, but for a gray one.
    GrayImage::from_pixel(40, 20, Luma([77])).save(shop.path("g.png")).unwrap();
    for (pad, is_gray, corner) in [("808080", true, [128; 3]), ("ff0000", false, [255, 0, 0])] {
        for (name, most) in [("g-out.png", 0), ("g-out.jpg", 3)] {
            shop.good(&format!("resize g.png -s 32x32 --pad {pad} -o {name}"));
            let padded = shop.picture(name);
            assert!(name.ends_with("jpg") || padded.color().has_color() != is_gray, "{pad}");
            let padded = padded.to_rgb8();
            for (y, wanted) in [(2, corner), (16, [77; 3])] {
                let found = padded.get_pixel(16, y).0;
                let off = found.iter().zip(wanted).map(|(found, wanted)| found.abs_diff(wanted));
                assert!(off.max() <= Some(most), "{pad} {name} {y}: {found:?}");
            }
        }
    }
    let error = shop.bad("resize q.png -s 50x50 --mode fill --pad ffffff -o out.png");
    assert!(error.contains("--pad is for --mode fit"), "{error}");
    for option in ["--mode fill", "--pad ffffff"] {
        for size in ["50x", "x50"] {
            let error = shop.bad(&format!("resize q.png -s {size} {option} -o out.png"));
            let expected = "resizectl: --mode fill and --pad need both sides of --size\n";
            assert_eq!(error, expected, "{option} {size}");
        }
    }
    let part = run("-s 20x20 --crop 80x40+110+5");
    assert_eq!(part.dimensions(), (20, 10));
    assert!(part.pixels().all(|pixel| pixel.0 == [0, 255, 0]));
    let error = shop.bad("resize q.png -s 20x20 --crop 100x40+110+5 -o out.png");
    assert!(
        error.starts_with("resizectl: q.png: the crop is not within its 200x100 pixels"),
        "{error}"
    );
}

#[test]
fn transparent_pixels_do_not_bleed_and_become_white_paper() {
    let shop = Shop::new();
    let half = RgbaImage::from_fn(64, 64, |x, _| {
        if x < 32 { Rgba([255, 0, 0, 255]) } else { Rgba([0, 0, 0, 0]) }
    });
    half.save(shop.path("half.png")).unwrap();
    shop.good("resize half.png -s 16x16 -o out.webp");
    let out = shop.picture("out.webp").to_rgba8();
    assert_eq!(out.get_pixel(15, 3).0[3], 0);
    for pixel in out.pixels().filter(|pixel| pixel.0[3] > 16) {
        assert!(pixel.0[0] > 240, "{pixel:?}");
    }
    shop.good("resize half.png -s 16x16 --quality 100 -o out.jpg");
    let [red, green, blue] = shop.picture("out.jpg").to_rgb8().get_pixel(14, 3).0;
    assert!(red.min(green).min(blue) > 240, "{red} {green} {blue}");
}

#[test]
fn a_batch_may_be_named_in_a_file_and_gone_on_with() {
    let shop = Shop::new();
    let picture = jpeg(&scenery(64, 48), Subsamp::Sub2x2);
    for name in ["a.jpg", "b c.jpg", "d.jpg"] {
        shop.file(name, &picture);
    }
    // A list that was written on another system.
    shop.file("list", b"b c.jpg\r\n\r\nd.jpg");
    let line = "resize a.jpg --files-from list -s 32x -o out/{name}-s.jpg --skip-existing";
    shop.good(line);
    let written = |name: &str| fs::metadata(shop.path(&format!("out/{name}-s.jpg"))).unwrap();
    assert_eq!(shop.picture("out/d-s.jpg").width(), 32);
    fs::remove_file(shop.path("out/b c-s.jpg")).unwrap();
    let before = written("a").modified().unwrap();
    let said = String::from_utf8(shop.run(line).stderr).unwrap();
    assert!(said.starts_with("1 of 3 pictures resized, 2 were there, "), "{said}");
    assert_eq!(written("a").modified().unwrap(), before);
    assert_eq!(shop.picture("out/b c-s.jpg").width(), 32);
    // An empty file is no result.
    fs::write(shop.path("out/d-s.jpg"), "").unwrap();
    let said = String::from_utf8(shop.run(line).stderr).unwrap();
    assert!(said.starts_with("1 of 3 pictures resized, 2 were there, "), "{said}");
    assert_eq!(shop.picture("out/d-s.jpg").width(), 32);
    // By standard input alone.
    let mut command = shop.command();
    command.args(["resize", "--files-from", "-", "-s", "16x", "-o", "small/"]);
    let output = command.stdin(fs::File::open(shop.path("list")).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(shop.path("small")).unwrap().count(), 2);
    // Of a file, what nobody has read yet.
    let mut command = shop.command();
    command.args(["resize", "--files-from", "-", "-s", "16x", "-o", "rest/"]);
    let mut list = fs::File::open(shop.path("list")).unwrap();
    let line = fs::read(shop.path("list")).unwrap().iter().position(|&byte| byte == b'\n').unwrap();
    list.seek(SeekFrom::Start(line as u64 + 1)).unwrap();
    let output = command.stdin(list).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(shop.path("rest")).unwrap().count(), 1);
}

#[test]
fn a_result_is_known_by_its_pictures_name() {
    let shop = Shop::new();
    shop.file("a.jpg", &jpeg(&scenery(64, 48), Subsamp::Sub2x2));
    for output in ["out/%02d.jpg", "out/{n}-{name}.jpg"] {
        let said = shop.bad(&format!("resize a.jpg -s 32x -o {output} --skip-existing"));
        let why = "resizectl: --skip-existing knows results by their pictures' names";
        assert!(said.starts_with(why), "{said}");
        assert!(!shop.path("out").exists());
    }
    // What a shell has just made for standard output.
    let mut command = shop.command();
    command.args(["resize", "a.jpg", "-s", "32x", "--skip-existing", "-o", "-"]);
    let output = command.stdout(fs::File::create(shop.path("one.jpg")).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(shop.picture("one.jpg").width(), 32);
}

#[test]
fn a_list_is_read_as_a_list() {
    let shop = Shop::new();
    let picture = shop.file("a.jpg", &jpeg(&scenery(64, 48), Subsamp::Sub2x2));
    let said = shop.bad("resize --files-from none -s 16x -o small/");
    assert_eq!(said, "resizectl: none: can't read it: No such file or directory (os error 2)\n");
    fs::create_dir(shop.path("pics")).unwrap();
    let said = shop.bad("resize --files-from pics -s 16x -o small/");
    assert_eq!(said, "resizectl: pics: can't read it: Is a directory (os error 21)\n");
    for (name, lines) in [("empty", ""), ("blank", "\n\r\n")] {
        shop.file(name, lines.as_bytes());
        let said = shop.bad(&format!("resize --files-from {name} -s 16x -o small/"));
        assert_eq!(said, format!("resizectl: {name} names no pictures\n"));
        // There is nothing more to do.
        shop.good(&format!("resize a.jpg --files-from {name} -s 16x -o {name}-small/"));
        assert_eq!(shop.picture(&format!("{name}-small/a.jpg")).width(), 16);
    }
    for line in ["- --files-from -", "- -"] {
        let mut command = shop.command();
        command.arg("resize").args(line.split(' ')).args(["-s", "16x", "-o", "twice/{n}.jpg"]);
        let output = command.stdin(fs::File::open(&picture).unwrap()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "resizectl: standard input can be read once, and - is there twice\n");
    }
    assert!(!shop.path("twice").exists());
}

#[test]
fn what_a_result_can_not_have_is_said() {
    let shop = Shop::new();
    let scene = DynamicImage::from(scenery(64, 64));
    scene.to_rgb16().save(shop.path("deep.png")).unwrap();
    scene.save(shop.path("plain.png")).unwrap();
    let output = shop.run("resize deep.png plain.png -s 32x -o out/");
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("resizectl: deep.png: only 8 of 16 bits a channel are kept\n2 of 2"));
    // Nor what is lost in a JPEG alone.
    for (output, told) in [("a.webp", true), ("b.png", true), ("c.jpg", false)] {
        let line = format!("resize plain.png -s 32x --quality 50 -o {output}");
        let said = String::from_utf8(shop.run(&line).stderr).unwrap();
        assert_eq!(said.contains("--quality is for JPEG: "), told, "{said}");
        assert!(shop.run(&format!("{line} -q")).stderr.is_empty());
    }
}
