//! Streams whose frames are JPEGs: they are what decoding, a local stream of planes and encoding
//! make; and what is no honest JPEG costs its own frame alone.

use resized_client::{
    Client, Coding, CodingError, Crop, Error, Extent, Filter, Frame, FrameSpec, Framing, Jpeg,
    PixelFormat, Quality, Range, Refusal, Stream, StreamSpec, Subsampling, wait_any,
};
use turbojpeg::{
    Compressor, Decompressor, Image, ScalingFactor, Subsamp, YuvImage, YuvPlanesImage,
};

use crate::restarts::under_load;
use crate::support::{Bridge, Local, bounded, noise, until};

const EXTENT: Extent = Extent::new(194, 130);
const SMALL: Extent = Extent::new(83, 51);
const SUBSAMPS: [Subsamp; 5] =
    [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub1x2, Subsamp::Sub2x2, Subsamp::Gray];
const JPEG: Jpeg = Jpeg { quality: Quality::new(90).unwrap(), subsampling: Subsampling::Both };
const BOTH: Coding = Coding { jpeg_in: true, jpeg_out: Some(JPEG) };

/// A picture with edges, slopes and colours, another for each seed.
fn picture(Extent { width, height }: Extent, seed: u32) -> Vec<u8> {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (fx, fy) = (f64::from(x), f64::from(y));
            let wave = (fx / 9.0 + f64::from(seed)).sin() * (fy / 13.0).cos();
            let disc = (fx - 70.0).hypot(fy - 60.0) < f64::from(20 + seed % 30);
            let base = if disc { 60.0 } else { 150.0 };
            rgb.extend([base + 60.0 * wave, 120.0 + fx / 3.0, base].map(|value| value as u8));
        }
    }
    rgb
}

fn encoded(extent: Extent, subsamp: Subsamp, quality: i32, seed: u32) -> Vec<u8> {
    let rgb = picture(extent, seed);
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(quality).unwrap();
    compressor.set_subsamp(subsamp).unwrap();
    let (width, height) = (extent.width as usize, extent.height as usize);
    let format = turbojpeg::PixelFormat::RGB;
    let image = Image { pixels: rgb.as_slice(), width, pitch: 3 * width, height, format };
    compressor.compress_to_vec(image).unwrap()
}

fn jpeg(seed: u32) -> Vec<u8> {
    encoded(EXTENT, Subsamp::Sub2x2, 88, seed)
}

fn spec(source: PixelFormat, destination: PixelFormat, coding: Coding) -> StreamSpec {
    let mut spec = StreamSpec::new(FrameSpec::jpeg(source, EXTENT), SMALL);
    spec.destination = FrameSpec::jpeg(destination, SMALL);
    StreamSpec { coding, filter: Filter::Bicubic, ..spec }
}

fn submit(stream: &Stream, jpeg: &[u8]) -> Result<Frame, Error> {
    let mut slot = stream.loan()?;
    slot.write_jpeg(jpeg)?;
    slot.submit()?.wait()
}

const fn packed(format: PixelFormat) -> Option<(turbojpeg::PixelFormat, usize)> {
    match format {
        PixelFormat::Gray8 => Some((turbojpeg::PixelFormat::GRAY, 1)),
        PixelFormat::Rgb24 => Some((turbojpeg::PixelFormat::RGB, 3)),
        PixelFormat::Bgra => Some((turbojpeg::PixelFormat::BGRA, 4)),
        _ => None,
    }
}

/// A packed frame of that format, without what this bridge's own code does.
fn decoded(jpeg: &[u8], format: PixelFormat, reduction: usize) -> (Vec<u8>, Extent) {
    let mut decompressor = Decompressor::new().unwrap();
    decompressor.set_scaling_factor(ScalingFactor::new(1, reduction)).unwrap();
    let header = decompressor.read_header(jpeg).unwrap();
    let header = header.scaled(ScalingFactor::new(1, reduction));
    let (width, height) = (header.width, header.height);
    let extent = Extent::new(width as u32, height as u32);
    if let Some((format, bytes)) = packed(format) {
        let mut pixels = vec![0; width * height * bytes];
        let (pitch, all) = (width * bytes, pixels.as_mut_slice());
        let image = Image { pixels: all, width, pitch, height, format };
        decompressor.decompress(jpeg, image).unwrap();
        return (pixels, extent);
    }
    assert_eq!(header.subsamp, Subsamp::Sub2x2);
    let mut yuv = YuvImage {
        pixels: vec![0; turbojpeg::yuv_pixels_len(width, 1, height, header.subsamp).unwrap()],
        width,
        align: 1,
        height,
        subsamp: header.subsamp,
    };
    decompressor.decompress_to_yuv(jpeg, yuv.as_deref_mut()).unwrap();
    // Without the column and row that make sides even.
    let (stride, rows) = (width.next_multiple_of(2), height.next_multiple_of(2));
    let (luma, chroma) = yuv.pixels.split_at(stride * rows);
    let luma = luma.chunks(stride).take(height).flat_map(|row| &row[..width]);
    (luma.chain(chroma).copied().collect(), extent)
}

/// What a local stream makes of the planes.
fn locally(near: &Client, spec: &StreamSpec, packed: &[u8]) -> Vec<u8> {
    let stream = near.open(spec).unwrap();
    let mut slot = stream.loan().unwrap();
    slot.write_packed(packed).unwrap();
    slot.submit().unwrap().wait().unwrap().to_packed()
}

#[test]
fn frames_are_what_decoding_and_a_local_stream_make() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let (near, far) = (local.client(), bridge.client());
        for format in [PixelFormat::I420, PixelFormat::Gray8, PixelFormat::Rgb24, PixelFormat::Bgra]
        {
            for subsamp in SUBSAMPS {
                // Planes are of one subsampling, and another's means are tested beside them.
                if format == PixelFormat::I420 && subsamp != Subsamp::Sub2x2 {
                    continue;
                }
                let coding = Coding { jpeg_in: true, jpeg_out: None };
                let coded = spec(format, format, coding);
                let stream = far.open(&coded).unwrap();
                for seed in 0..3 {
                    let jpeg = encoded(EXTENT, subsamp, 88, seed);
                    let frame = submit(&stream, &jpeg).unwrap();
                    let (planes, _) = decoded(&jpeg, format, 1);
                    let raw = StreamSpec { coding: Coding::RAW, ..coded };
                    let expected = locally(&near, &raw, &planes);
                    assert_eq!(frame.to_packed(), expected, "{format:?} {subsamp:?}");
                }
            }
        }
    });
}

#[test]
fn results_are_what_a_local_stream_and_encoding_make() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let (near, far) = (local.client(), bridge.client());
        for (format, subsampling, subsamp) in [
            (PixelFormat::I420, Subsampling::Both, Subsamp::Sub2x2),
            (PixelFormat::Gray8, Subsampling::Both, Subsamp::Gray),
            (PixelFormat::Rgb24, Subsampling::Neither, Subsamp::None),
            (PixelFormat::Rgb24, Subsampling::Horizontal, Subsamp::Sub2x1),
            (PixelFormat::Bgra, Subsampling::Both, Subsamp::Sub2x2),
        ] {
            let jpeg = Jpeg { quality: Quality::new(77).unwrap(), subsampling };
            let coding = Coding { jpeg_in: false, jpeg_out: Some(jpeg) };
            let coded = spec(PixelFormat::Rgb24, format, coding);
            let stream = far.open(&coded).unwrap();
            let mut slot = stream.loan().unwrap();
            slot.write_packed(&picture(EXTENT, 3)).unwrap();
            let frame = slot.submit().unwrap().wait().unwrap();
            let raw = StreamSpec { coding: Coding::RAW, ..coded };
            let pixels = locally(&near, &raw, &picture(EXTENT, 3));
            assert_eq!(frame.jpeg(), reencoded(&pixels, format, subsamp, 77), "{format:?}");
        }
    });
}

/// A packed frame of the small extent as a JPEG.
fn reencoded(pixels: &[u8], format: PixelFormat, subsamp: Subsamp, quality: i32) -> Vec<u8> {
    let (width, height) = (SMALL.width as usize, SMALL.height as usize);
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(quality).unwrap();
    if let Some((format, bytes)) = packed(format) {
        compressor.set_subsamp(subsamp).unwrap();
        let image = Image { pixels, width, pitch: width * bytes, height, format };
        return compressor.compress_to_vec(image).unwrap();
    }
    // Sides that are odd: the last column and row of luma twice.
    assert!(width % 2 == 1 && height % 2 == 1);
    let (luma, chroma) = pixels.split_at(width * height);
    let rows = luma.chunks(width).chain([&luma[luma.len() - width..]]);
    let luma: Vec<u8> = rows.flat_map(|row| row.iter().chain(row.last()).copied()).collect();
    let (u_plane, v_plane) = chroma.split_at(chroma.len() / 2);
    let half = width.div_ceil(2);
    let image = YuvPlanesImage {
        y_plane: luma.as_slice(),
        u_plane,
        v_plane,
        width,
        height,
        y_stride: width + 1,
        u_stride: half,
        v_stride: half,
        subsamp,
    };
    compressor.compress_yuv_planes_to_vec(&image).unwrap()
}

#[test]
fn chroma_of_any_subsampling_is_halved() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let far = bridge.client();
        let coding = Coding { jpeg_in: true, jpeg_out: None };
        // Odd sides, too.
        for extent in [EXTENT, Extent::new(95, 77)] {
            let source = FrameSpec::jpeg(PixelFormat::I420, extent);
            // Nothing is resized: what comes back are the planes.
            let stream =
                far.open(&StreamSpec { coding, ..StreamSpec::new(source, extent) }).unwrap();
            let rgb = FrameSpec::jpeg(PixelFormat::Rgb24, extent);
            let exact = far.open(&StreamSpec {
                coding,
                destination: source,
                ..StreamSpec::new(rgb, extent)
            });
            let exact = exact.unwrap();
            for subsamp in SUBSAMPS {
                let jpeg = encoded(extent, subsamp, 95, 5);
                let planes = submit(&stream, &jpeg).unwrap().to_packed();
                let expected = submit(&exact, &jpeg).unwrap().to_packed();
                let apart = mean_apart(&planes, &expected);
                assert!(apart < 1.0, "{subsamp:?}: {apart}");
            }
        }
    });
}

fn mean_apart(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len());
    let sum: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.len() as f64
}

#[test]
fn frames_that_are_shrunk_a_lot_are_reduced_first() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let (near, far) = (local.client(), bridge.client());
        let whole = Extent::new(645, 483);
        let jpeg = encoded(whole, Subsamp::Sub2x2, 92, 1);
        let coding = Coding { jpeg_in: true, jpeg_out: None };
        for (destination, reduction) in [
            (Extent::new(323, 242), 1),
            (Extent::new(215, 161), 2),
            (Extent::new(107, 80), 4),
            (Extent::new(53, 40), 8),
            (Extent::new(10, 10), 8),
            // By the direction that is shrunk less.
            (Extent::new(10, 400), 1),
        ] {
            for format in [PixelFormat::I420, PixelFormat::Rgb24] {
                let source = FrameSpec::jpeg(format, whole);
                let coded = StreamSpec { coding, ..StreamSpec::new(source, destination) };
                let found = submit(&far.open(&coded).unwrap(), &jpeg).unwrap().to_packed();
                let (pixels, extent) = decoded(&jpeg, format, reduction);
                let by = reduction as f64;
                let crop = Crop { left: 0.0, top: 0.0, width: 645.0 / by, height: 483.0 / by };
                let raw = StreamSpec {
                    source: FrameSpec { extent, ..source },
                    crop: Some(crop),
                    coding: Coding::RAW,
                    ..coded
                };
                assert_eq!(found, locally(&near, &raw, &pixels), "{destination} {format:?}");
                // And what that is like, beside all pixels.
                let (pixels, _) = decoded(&jpeg, format, 1);
                let all = locally(&near, &StreamSpec { source, crop: None, ..raw }, &pixels);
                let apart = mean_apart(&found, &all);
                assert!(apart < 1.5, "{destination} {format:?}: {apart}");
            }
        }
    });
}

#[test]
fn crops_are_of_the_frame_as_it_was() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let (near, far) = (local.client(), bridge.client());
        let whole = Extent::new(800, 600);
        let jpeg = encoded(whole, Subsamp::Sub2x2, 92, 1);
        let source = FrameSpec::jpeg(PixelFormat::Rgb24, whole);
        let coding = Coding { jpeg_in: true, jpeg_out: None };
        let mut coded = StreamSpec { coding, ..StreamSpec::new(source, Extent::new(64, 48)) };
        coded.framing = Framing::Fill;
        coded.crop = Some(Crop { left: 101.0, top: 51.5, width: 600.0, height: 430.0 });
        let stream = far.open(&coded).unwrap();
        let (pixels, _) = decoded(&jpeg, PixelFormat::Rgb24, 1);
        let raw = StreamSpec { coding: Coding::RAW, ..coded };
        let own = Crop { left: 300.0, top: 200.0, width: 330.0, height: 290.0 };
        for crop in [None, Some(own)] {
            let mut slot = stream.loan().unwrap();
            slot.write_jpeg(&jpeg).unwrap();
            if let Some(crop) = crop {
                slot.set_crop(crop).unwrap();
            }
            let found = slot.submit().unwrap().wait().unwrap().to_packed();
            let expected = locally(&near, &StreamSpec { crop: crop.or(raw.crop), ..raw }, &pixels);
            let apart = mean_apart(&found, &expected);
            assert!(apart < 1.5, "{crop:?}: {apart}");
        }
        // The least of crops is one of the reduced frame, too.
        let mut slot = stream.loan().unwrap();
        slot.write_jpeg(&jpeg).unwrap();
        let least = Crop { left: 799.9, top: 599.9, width: Crop::LEAST, height: Crop::LEAST };
        slot.set_crop(least).unwrap();
        assert!(slot.submit().unwrap().wait().is_ok());
    });
}

/// A JPEG that says it has that extent, and has not much more.
fn lying(extent: (u16, u16)) -> Vec<u8> {
    let mut jpeg = jpeg(0);
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..][..2].copy_from_slice(&extent.1.to_be_bytes());
    jpeg[frame + 7..][..2].copy_from_slice(&extent.0.to_be_bytes());
    jpeg
}

#[test]
fn what_is_no_jpeg_of_the_streams_costs_its_own_frame() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let far = bridge.client();
        for format in [PixelFormat::I420, PixelFormat::Rgb24, PixelFormat::Gray8] {
            let stream = far.open(&spec(format, PixelFormat::I420, BOTH)).unwrap();
            let good = jpeg(0);
            let expected = submit(&stream, &good).unwrap().jpeg().to_vec();
            for (what, bad) in [
                ("nothing", Vec::new()),
                ("noise", noise(3000, 7)),
                ("a bomb", lying((60_000, 60_000))),
                ("one row more", lying((194, 131))),
                ("no pixels", lying((0, 0))),
                ("a half", good[..good.len() / 2].to_vec()),
                ("a header", good[..300].to_vec()),
                ("another's", encoded(SMALL, Subsamp::Sub2x2, 80, 1)),
            ] {
                let error = submit(&stream, &bad).unwrap_err();
                assert!(matches!(error, Error::Unreadable), "{what}: {error:?}");
                assert_eq!(submit(&stream, &good).unwrap().jpeg(), expected);
            }
            let mut slot = stream.loan().unwrap();
            let longest = slot.layout().longest_coded();
            let error = slot.write_jpeg(&vec![0; longest + 1]).unwrap_err();
            assert!(matches!(error, Error::JpegLen { .. }), "{error:?}");
        }
    });
}

#[test]
fn bytes_before_the_end_that_mean_nothing_do_no_harm() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let far = bridge.client();
        for format in [PixelFormat::I420, PixelFormat::Rgb24, PixelFormat::Gray8] {
            let stream = far.open(&spec(format, PixelFormat::I420, BOTH)).unwrap();
            for subsamp in SUBSAMPS {
                let good = encoded(EXTENT, subsamp, 88, 0);
                // As some cameras write them.
                let (pixels, end) = good.split_at(good.len() - 2);
                let odd = [pixels, &[0x11; 9], end].concat();
                let expected = submit(&stream, &good).unwrap().jpeg().to_vec();
                assert_eq!(
                    submit(&stream, &odd).unwrap().jpeg(),
                    expected,
                    "{format:?} {subsamp:?}"
                );
            }
        }
    });
}

#[test]
fn jpegs_whose_every_byte_may_be_wrong() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let stream =
            bridge.client().open(&spec(PixelFormat::I420, PixelFormat::I420, BOTH)).unwrap();
        let good = jpeg(0);
        let expected = submit(&stream, &good).unwrap().jpeg().to_vec();
        for seed in 1..300 {
            let mut bad = good.clone();
            for (at, value) in noise(8, seed).into_iter().zip(noise(8, seed + 1000)) {
                // Half of them in the headers.
                let len = if seed % 2 == 0 { 640 } else { bad.len() };
                let at = (usize::from(at) * 257 * (1 + seed as usize)) % len;
                bad[at] = value;
            }
            match submit(&stream, &bad) {
                Ok(_) | Err(Error::Unreadable | Error::Failed) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(submit(&stream, &good).unwrap().jpeg(), expected);
    });
}

#[test]
fn what_can_not_be_a_jpeg_is_refused() {
    bounded(|| {
        let local = Local::start();
        let flags = ["--connection-memory", "1", "--megapixels", "1"];
        let bridge = Bridge::start(&local, &flags);
        let (near, far) = (local.client(), bridge.client());
        let good = spec(PixelFormat::I420, PixelFormat::I420, BOTH);
        let refused = |client: &Client, spec: &StreamSpec| match client.open(spec) {
            Err(Error::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        // The daemon itself reads none.
        assert_eq!(refused(&near, &good), Refusal::Coded);
        let nv12 = spec(PixelFormat::Nv12, PixelFormat::I420, BOTH);
        let unknown = Refusal::Coding(CodingError::Format(PixelFormat::Nv12));
        assert_eq!(refused(&far, &nv12), unknown);
        let mut limited = good;
        limited.source.range = Range::Limited;
        assert_eq!(refused(&far, &limited), Refusal::Coding(CodingError::Colour));
        let mut empty = good;
        empty.source.extent = Extent::new(0, 1);
        assert!(matches!(refused(&far, &empty), Refusal::Source(_)));
        let mut large = good;
        large.source.extent = Extent::new(1001, 1000);
        let error = CodingError::Large { pixels: 1_001_000, limit: 1_000_000 };
        assert_eq!(refused(&far, &large), Refusal::Coding(error));
        let mut out = good;
        out.crop = Some(Crop { left: 1.0, ..Crop::whole(EXTENT) });
        assert!(matches!(refused(&far, &out), Refusal::Crop { .. }));
        // JPEGs on their way count too.
        let many = StreamSpec { slots: 12, ..good };
        assert!(matches!(refused(&far, &many), Refusal::Quota { limit: 0x10_0000, .. }));
        assert!(far.open(&StreamSpec { coding: Coding::RAW, ..many }).is_ok());
        let stream = far.open(&good).unwrap();
        assert!(submit(&stream, &jpeg(1)).is_ok());
    });
}

#[test]
fn many_in_flight_are_right_and_streams_may_end_in_the_middle() {
    bounded(|| {
        let local = Local::start();
        let bridge = Bridge::start(&local, &[]);
        let far = bridge.client();
        let spec = StreamSpec { slots: 8, ..spec(PixelFormat::I420, PixelFormat::I420, BOTH) };
        let stream = far.open(&spec).unwrap();
        let jpegs: Vec<_> = (0..8).map(jpeg).collect();
        let mut expected: Vec<_> =
            jpegs.iter().map(|jpeg| submit(&stream, jpeg).unwrap().jpeg().to_vec()).collect();
        expected.sort();
        for _ in 0..10 {
            let short = far.open(&spec).unwrap();
            let loaned = |stream: &Stream, jpeg: &Vec<u8>| {
                let mut slot = stream.loan().unwrap();
                slot.write_jpeg(jpeg).unwrap();
                slot
            };
            // Closed with frames on their way in every state.
            let given_up: Vec<_> =
                jpegs.iter().map(|jpeg| loaned(&short, jpeg).submit().unwrap()).collect();
            let slots = jpegs.iter().map(|jpeg| loaned(&stream, jpeg)).collect();
            let mut pendings = stream.submit_all(slots).unwrap();
            drop((short, given_up));
            let mut found = Vec::new();
            while !pendings.is_empty() {
                let done = wait_any(&pendings).unwrap();
                found.push(pendings.swap_remove(done).wait().unwrap().jpeg().to_vec());
            }
            found.sort();
            assert_eq!(found, expected);
        }
        until("those that ended are gone", || far.stats().unwrap().streams == 1);
    });
}

#[test]
fn bridges_and_daemons_that_go_away_lose_no_jpeg() {
    bounded(|| {
        let mut local = Local::start();
        let mut bridge = Bridge::start(&local, &[]);
        let spec = spec(PixelFormat::I420, PixelFormat::I420, BOTH);
        let resize = |stream: &Stream, seed| Ok(submit(stream, &jpeg(seed))?.jpeg().to_vec());
        under_load(&mut local, &mut bridge, spec, resize, |local, bridge| {
            bridge.kill();
            bridge.start_again();
            local.stop();
            local.start_again();
        });
    });
}
