//! Frames of streams of JPEGs that are any bytes: each is a frame or is not read, and the same
//! connection's next frame is right, whatever the decoder met before.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use resized_client::{
    Client, Coding, Crop, Error, Extent, FrameSpec, Jpeg, PixelFormat, Quality, Stream, StreamSpec,
    Subsampling,
};
use resized_fuzz::Scene;
use turbojpeg::{Compressor, Image};

const EXTENT: Extent = Extent::new(45, 34);

/// Streams of every way in which a JPEG is read: formats, reductions, with and without a crop.
struct Scenery {
    scene: Scene,
    streams: Vec<Honest>,
}

/// A stream, and what an honest frame becomes.
struct Honest {
    stream: Stream,
    jpeg: Vec<u8>,
    made: Vec<u8>,
}

impl Scenery {
    fn new() -> Self {
        let mut scene = Scene::start();
        let client = Client::connect(&format!("tcp://{}", scene.bridge).parse().unwrap()).unwrap();
        let jpeg = honest();
        let formats = [PixelFormat::I420, PixelFormat::Gray8, PixelFormat::Bgra];
        let sides = [(44, 33), (15, 11), (7, 5), (3, 2)];
        let out = Jpeg { quality: Quality::new(80).unwrap(), subsampling: Subsampling::Both };
        let mut streams = Vec::new();
        for format in formats {
            for (width, height) in sides {
                let mut spec =
                    StreamSpec::new(FrameSpec::jpeg(format, EXTENT), Extent::new(width, height));
                spec.destination = FrameSpec::jpeg(format, spec.destination.extent);
                spec.slots = 1;
                let jpeg_out = (width % 2 == 0).then_some(out);
                spec.coding = Coding { jpeg_in: true, jpeg_out };
                if width == 15 {
                    spec.crop = Some(Crop { left: 0.5, top: 1.25, width: 44.0, height: 32.0 });
                }
                let stream = client.open(&spec).unwrap();
                let made = resize(&stream, &jpeg).unwrap();
                streams.push(Honest { stream, jpeg: jpeg.clone(), made });
            }
        }
        scene.settle();
        Self { scene, streams }
    }
}

fuzz_target!(|input: &[u8]| {
    static SCENERY: OnceLock<Scenery> = OnceLock::new();
    let Some((&choice, jpeg)) = input.split_first() else { return };
    let Scenery { scene, streams } = SCENERY.get_or_init(Scenery::new);
    let Honest { stream, jpeg: honest, made } = &streams[usize::from(choice) % streams.len()];
    match resize(stream, jpeg) {
        Ok(_) | Err(Error::Unreadable | Error::JpegLen { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    assert!(resize(stream, honest).unwrap() == *made, "another frame than before");
    scene.await_rest();
    scene.honest.frame(choice);
});

/// The frame as it came.
fn resize(stream: &Stream, jpeg: &[u8]) -> Result<Vec<u8>, Error> {
    let mut slot = stream.loan()?;
    slot.write_jpeg(jpeg)?;
    let frame = slot.submit()?.wait()?;
    Ok(match frame.layout().is_coded() {
        true => frame.jpeg().to_vec(),
        false => frame.to_packed(),
    })
}

fn honest() -> Vec<u8> {
    let (width, height) = (EXTENT.width as usize, EXTENT.height as usize);
    let pixels: Vec<u8> = (0..3 * width * height).map(|n| (n * n / 97) as u8).collect();
    let format = turbojpeg::PixelFormat::RGB;
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
    Compressor::new().unwrap().compress_to_vec(image).unwrap()
}
