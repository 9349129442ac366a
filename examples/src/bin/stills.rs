//! A batch of stills: JPEGs of any size, decoded straight into slots and encoded from where they were
//! resized.
//!
//!     stills WIDTH HEIGHT FOLDER IN.jpg...
//!
//! Each picture fills the size; what is too much of it is cut off. One is decoded while those before it are
//! resized. (resizectl resize does this with a thread for each core, and makes no RGB of what cameras write.)

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use resized_client::{
    Client, Extent, Frame, FrameSpec, Framing, Pending, PixelFormat, Stream, StreamSpec,
};
use turbojpeg::{Compressor, Decompressor, Image};

/// Of four slots one is for the next picture.
const AHEAD: usize = StreamSpec::SLOTS as usize - 1;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [width, height, folder, inputs @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: stills WIDTH HEIGHT FOLDER IN.jpg...")
    };
    let size = Extent::new(width.parse()?, height.parse()?);
    fs::create_dir_all(folder).with_context(|| folder.clone())?;
    let output = |input: &Path| Path::new(folder).join(input.file_name().unwrap_or_default());
    let read: HashSet<_> =
        inputs.iter().flat_map(|input| Path::new(input).canonicalize()).collect();
    let mut outputs = HashSet::new();
    for input in inputs.iter().map(Path::new) {
        let output = output(input);
        ensure!(
            output.canonicalize().is_ok_and(|there| !read.contains(&there)) || !output.exists(),
            "{} would take the place of a picture that is read",
            output.display()
        );
        ensure!(outputs.insert(output.clone()), "two pictures would become {}", output.display());
    }

    let client = Client::discover()?;
    let (mut decoder, mut encoder) = (Decompressor::new()?, Compressor::new()?);
    // A stream is for frames of one size. What is in flight keeps an older one open.
    let mut stream: Option<(Extent, Stream)> = None;
    let mut pendings = VecDeque::<(PathBuf, Pending)>::new();
    for input in inputs.iter().map(PathBuf::from) {
        let name = || input.display().to_string();
        let jpeg = fs::read(&input).with_context(name)?;
        let header = decoder.read_header(&jpeg).with_context(name)?;
        let extent = Extent::new(header.width as u32, header.height as u32);
        let stream = match &mut stream {
            Some((of, stream)) if *of == extent => stream,
            other => {
                let opened = open(&client, extent, size).with_context(name)?;
                &mut other.insert((extent, opened)).1
            }
        };
        if pendings.len() == AHEAD
            && let Some((path, pending)) = pendings.pop_front()
        {
            finish(&mut encoder, pending, &output(&path))?;
        }
        let mut slot = stream.loan().with_context(name)?;
        let (width, height, pitch) =
            (header.width, header.height, slot.layout().planes()[0].stride);
        let format = turbojpeg::PixelFormat::RGB;
        let pixels = Image { pixels: slot.plane_mut(0), width, pitch, height, format };
        decoder.decompress(&jpeg, pixels).with_context(name)?;
        let pending = slot.submit().with_context(name)?;
        pendings.push_back((input, pending));
    }
    for (input, pending) in pendings {
        finish(&mut encoder, pending, &output(&input))?;
    }
    println!("{} pictures of {size} are in {folder}", inputs.len());
    Ok(())
}

fn open(client: &Client, from: Extent, to: Extent) -> Result<Stream> {
    let mut spec = StreamSpec::new(FrameSpec::new(PixelFormat::Rgb24, from), to);
    spec.framing = Framing::Fill;
    Ok(client.open(&spec)?)
}

/// Waits for a picture, and writes it.
fn finish(encoder: &mut Compressor, pending: Pending, output: &Path) -> Result<()> {
    let name = || output.display().to_string();
    let frame = pending.wait().with_context(name)?;
    let jpeg = encode(encoder, &frame).with_context(name)?;
    fs::write(output, jpeg).with_context(name)
}

fn encode(encoder: &mut Compressor, frame: &Frame) -> Result<Vec<u8>> {
    let plane = frame.layout().planes()[0];
    let (width, height) = (plane.extent.width as usize, plane.rows());
    let format = turbojpeg::PixelFormat::RGB;
    let image = Image { pixels: frame.plane(0), width, pitch: plane.stride, height, format };
    encoder.set_quality(85)?;
    Ok(encoder.compress_to_vec(image)?)
}
