//! Owns the way from a JPEG to its pixels: as planes, or as one plane of gray or of colours.
//!
//! Invariants: a header is read before anything is decoded, no JPEG takes more scans than are
//! allowed, or a small one could keep a core busy for minutes, and none is read that has more to save
//! than a profile of colours.

use turbojpeg::{DecompressHeader, Decompressor, Error, Image, Result, ScalingFactor, YuvImage};

use crate::saved::{checked, saved_bytes};

/// A JPEG whose header was read. Each has a decoder of its own: TurboJPEG's keep the tables of the
/// JPEG before, which may be another client's, and do not get over an error in its header.
#[derive(Debug)]
pub struct Decoder<'a> {
    jpeg: &'a [u8],
    decompressor: Decompressor,
    header: DecompressHeader,
    /// Segments that it saves.
    saved: usize,
}

impl<'a> Decoder<'a> {
    /// Reads the header. Of a JPEG with more than so many scans no more will be read.
    pub fn new(jpeg: &'a [u8], scans: u32) -> Result<Self> {
        let (jpeg, saved) = checked(jpeg)?;
        let mut decompressor = Decompressor::new()?;
        decompressor.set_scan_limit(scans)?;
        let header = decompressor.read_header(jpeg)?;
        Ok(Self { jpeg, decompressor, header, saved })
    }

    /// Most memory that it takes beside what pixels take.
    pub fn saved_bytes(&self) -> u64 {
        saved_bytes(self.saved, self.jpeg.len())
    }

    /// What the header says, of all pixels.
    pub const fn header(&self) -> &DecompressHeader {
        &self.header
    }

    /// Decodes to one plane, one pixel of `shrink` in each direction: 1, 2, 4 or 8.
    pub fn decode(mut self, shrink: u32, target: Image<&mut [u8]>) -> Result<()> {
        self.decompressor.set_scaling_factor(ScalingFactor::new(1, shrink as usize))?;
        sound(self.decompressor.decompress(self.jpeg, target))
    }

    /// Decodes to planes, likewise, without changing colours. They lie as libjpeg-turbo lays them out:
    /// one behind the other, of whole blocks of subsampled pixels, each row at a multiple of `align`
    /// bytes.
    pub fn decode_planes(mut self, shrink: u32, pixels: &mut [u8], align: usize) -> Result<()> {
        let scale = ScalingFactor::new(1, shrink as usize);
        self.decompressor.set_scaling_factor(scale)?;
        let DecompressHeader { width, height, subsamp, .. } = self.header.scaled(scale);
        let image = YuvImage { pixels, width, align, height, subsamp };
        sound(self.decompressor.decompress_to_yuv(self.jpeg, image))
    }
}

/// What is only odd is no error: bytes before the end that mean nothing, which some cameras write.
/// The library tells the first of its complaints alone: behind one about the end there is none,
/// behind another there may be.
fn sound(outcome: Result<()>) -> Result<()> {
    const BEFORE_END: &str = "extraneous bytes before marker 0xd9";
    match outcome {
        Err(Error::TurboJpegError(text)) if text.contains(BEFORE_END) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use turbojpeg::{Compressor, PixelFormat, Subsamp, yuv_pixels_len};

    use super::*;

    const SIDES: (usize, usize) = (45, 34);

    fn jpeg() -> Vec<u8> {
        let (width, height) = SIDES;
        let pixels: Vec<u8> = (0..3 * width * height).map(|n| (n * n / 97) as u8).collect();
        let format = PixelFormat::RGB;
        let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
        compressor.compress_to_vec(image).unwrap()
    }

    /// Its colours and its planes.
    fn decoded(jpeg: &[u8], shrink: u32) -> Result<(Vec<u8>, Vec<u8>)> {
        let (width, height) =
            (SIDES.0.div_ceil(shrink as usize), SIDES.1.div_ceil(shrink as usize));
        let mut pixels = vec![0; 3 * width * height];
        let format = PixelFormat::RGB;
        let image = Image { pixels: &mut pixels[..], width, pitch: 3 * width, height, format };
        Decoder::new(jpeg, 64)?.decode(shrink, image)?;
        let mut planes = vec![0; yuv_pixels_len(width, 4, height, Subsamp::Sub2x2)?];
        Decoder::new(jpeg, 64)?.decode_planes(shrink, &mut planes, 4)?;
        Ok((pixels, planes))
    }

    #[test]
    fn bytes_that_mean_nothing_are_forgiven_before_the_end_alone() {
        let good = jpeg();
        let (pixels, end) = good.split_at(good.len() - 2);
        let odd = [pixels, &[0x11; 9], end].concat();
        let half = [&pixels[..pixels.len() / 2], &[0x11; 9], end].concat();
        for shrink in [1, 2, 4, 8] {
            assert!(decoded(&odd, shrink).unwrap() == decoded(&good, shrink).unwrap(), "{shrink}");
            assert!(decoded(&half, shrink).is_err(), "{shrink}");
        }
        let early = [&good[..2], &[0x11; 9], &good[2..]].concat();
        assert!(Decoder::new(&early, 64).is_err());
    }
}
