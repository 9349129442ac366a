//! Owns the way from a JPEG to its pixels: as planes, or as one plane of gray or of colours.
//!
//! Invariants: a header is read before anything is decoded, no JPEG takes more scans than are
//! allowed, or a small one could keep a core busy for minutes, and none is read that has more to save
//! than a profile of colours.

use turbojpeg::{DecompressHeader, Decompressor, Error, Image, Result, ScalingFactor, YuvImage};

use crate::saved::{checked, end, saved_bytes};

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
    pub fn decode(mut self, shrink: u32, mut target: Image<&mut [u8]>) -> Result<()> {
        self.decompressor.set_scaling_factor(ScalingFactor::new(1, shrink as usize))?;
        sound(self.jpeg, |jpeg| self.decompressor.decompress(jpeg, target.as_deref_mut()))
    }

    /// Decodes to planes, likewise, without changing colours. They lie as libjpeg-turbo lays them out:
    /// one behind the other, of whole blocks of subsampled pixels, each row at a multiple of `align`
    /// bytes.
    pub fn decode_planes(mut self, shrink: u32, pixels: &mut [u8], align: usize) -> Result<()> {
        let scale = ScalingFactor::new(1, shrink as usize);
        self.decompressor.set_scaling_factor(scale)?;
        let DecompressHeader { width, height, subsamp, .. } = self.header.scaled(scale);
        sound(self.jpeg, |jpeg| {
            let image = YuvImage { pixels: &mut *pixels, width, align, height, subsamp };
            self.decompressor.decompress_to_yuv(jpeg, image)
        })
    }
}

/// Decodes a JPEG. What is only odd is no error: padding before the end, which some cameras write. The
/// library tells the first of its complaints alone, and this one, too, where it has passed over what
/// should have been pixels: so nothing may be wrong without those bytes.
fn sound(jpeg: &[u8], mut decode: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    match decode(jpeg) {
        Err(Error::TurboJpegError(complaint)) => match without_padding(jpeg, &complaint) {
            Some(jpeg) => decode(&jpeg),
            None => Err(Error::TurboJpegError(complaint)),
        },
        outcome => outcome,
    }
}

/// The JPEG without the bytes before its end that are complained of, if these are padding: all the
/// same. Others may be pixels, which a damaged code before them has left over.
fn without_padding(jpeg: &[u8], complaint: &str) -> Option<Vec<u8>> {
    let (_, complaint) = complaint.split_once("Corrupt JPEG data: ")?;
    let count = complaint.strip_suffix(" extraneous bytes before marker 0xd9")?;
    let end = end(jpeg).checked_sub(2)?;
    let padding = end.checked_sub(count.parse().ok()?)?;
    let (first, others) = jpeg.get(padding..end)?.split_first()?;
    let same = others.iter().all(|byte| byte == first);
    same.then(|| [&jpeg[..padding], &jpeg[end..]].concat())
}

#[cfg(test)]
mod tests {
    use turbojpeg::{Compressor, PixelFormat, Subsamp, yuv_pixels_len};

    use super::*;

    const SIDES: (usize, usize) = (45, 34);

    fn jpeg(subsamp: Subsamp, height: usize) -> Vec<u8> {
        let width = SIDES.0;
        let pixels: Vec<u8> = (0..3 * width * height).map(|n| (n * n / 97) as u8).collect();
        let format = PixelFormat::RGB;
        let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_subsamp(subsamp).unwrap();
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
        let good = jpeg(Subsamp::Sub2x2, SIDES.1);
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

    /// Where the height is in a JPEG's header.
    fn height(jpeg: &[u8]) -> usize {
        jpeg.windows(2).position(|bytes| bytes == [0xFF, 0xC0]).unwrap() + 5
    }

    #[test]
    fn bytes_that_may_be_pixels_are_not_forgiven() {
        let mut left_over = jpeg(Subsamp::Sub2x2, 2 * SIDES.1);
        let at = height(&left_over);
        left_over[at + 1] = SIDES.1 as u8;
        let text = decoded(&left_over, 1).unwrap_err().to_string();
        assert!(text.contains("extraneous bytes before marker 0xd9"), "{text}");
    }

    #[test]
    fn a_row_that_is_passed_over_is_not_forgiven() {
        // Of one row of blocks, as often as there are rows, with a restart before each of the others.
        let row = jpeg(Subsamp::Gray, 8);
        let scan = row.windows(2).position(|bytes| bytes == [0xFF, 0xDA]).unwrap() + 2 + 8;
        let (head, pixels, end) = (&row[..scan], &row[scan..row.len() - 2], [0xFF, 0xD9]);
        let (blocks, rows) = (SIDES.0.div_ceil(8) as u8, SIDES.1.div_ceil(8) as u8);
        let mut head = [&head[..2], &[0xFF, 0xDD, 0, 4, 0, blocks], &head[2..]].concat();
        let at = height(&head);
        head[at + 1] = SIDES.1 as u8;
        let restarts = (0..rows - 1).flat_map(|n| [&[0xFF, 0xD0 + n], pixels].concat());
        let restarts: Vec<u8> = restarts.collect();
        let good = [&head, pixels, &restarts, &end].concat();
        let odd = [&head, pixels, &restarts, &[0x11; 9], &end].concat();
        assert!(decoded(&odd, 1).unwrap() == decoded(&good, 1).unwrap());
        let first = [&head, pixels, &[0x11; 9], &end].concat();
        let mut last = good;
        let at = last.len() - 2 - pixels.len() - 2;
        last[at] = 0x11;
        // Of pixels that all are the same bytes, too.
        let mut flat = last.clone();
        flat[at..][..2 + pixels.len()].fill(0x11);
        for (which, jpeg) in [first, last, flat].iter().enumerate() {
            assert!(decoded(jpeg, 1).is_err(), "{which}");
        }
    }
}
