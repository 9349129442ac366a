//! A client on another machine: a photograph goes through a bridge as a JPEG, and a smaller JPEG comes back.
//!
//!     remote-client tls://HOST:PORT IN.jpg WIDTH OUT.jpg
//!
//! What the bridge wants to see, and whom to trust, the environment says: RESIZED_TOKEN_FILE, RESIZED_CA
//! and so on. Raw frames need nothing special: every other program here runs with
//! RESIZED_ENDPOINT=tls://HOST:PORT.

use std::fs;

use anyhow::{Context, Result, bail};
use resized_client::{
    Client, Coding, Endpoint, Error, Extent, FrameSpec, Jpeg, PixelFormat, Quality, StreamSpec,
    Subsampling,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, input, width, output] = arguments.as_slice() else {
        bail!("usage: remote-client tls://HOST:PORT IN.jpg WIDTH OUT.jpg")
    };
    let photo = fs::read(input).with_context(|| input.clone())?;
    let header = turbojpeg::read_header(&photo).with_context(|| input.clone())?;
    let extent = Extent::new(header.width as u32, header.height as u32);
    let size = extent.fit(Extent::new(width.parse()?, u32::MAX)); // as high as its shape has it

    let endpoint: Endpoint = endpoint.parse()?;
    let client = Client::connect(&endpoint).with_context(|| endpoint.to_string())?;
    let mut spec = StreamSpec::new(FrameSpec::jpeg(PixelFormat::I420, extent), size);
    let jpeg = Jpeg { quality: Quality::DEFAULT, subsampling: Subsampling::Both };
    spec.coding = Coding { jpeg_in: true, jpeg_out: Some(jpeg) };
    // One picture needs one slot; a stream of them has several on their way.
    spec.slots = 1;
    let stream = client.open(&spec)?;

    let frame = match stream.resize(&photo) {
        // The connection is as good as before: that concerns this picture.
        Err(Error::Unreadable) => bail!("{input} is a JPEG that the bridge does not read"),
        frame => frame?,
    };
    fs::write(output, frame.jpeg())?;
    println!(
        "{extent} in {} bytes became {size} in {} bytes, at {endpoint}",
        photo.len(),
        frame.jpeg().len()
    );
    Ok(())
}
