//! Owns what a JPEG file says before its first scan, as far as libjpeg-turbo does not tell it.
//!
//! Invariant: what the decoder might read past differently is not followed.

/// Marker and contents of each segment between a file's first marker and its first scan, with that
/// one's header: ITU-T T.81, annex B.1.
#[derive(Clone, Debug)]
pub struct Segments<'a>(&'a [u8]);

impl<'a> Segments<'a> {
    /// Those of a file, or of its beginning.
    pub fn new(file: &'a [u8]) -> Self {
        Self(file.get(2..).unwrap_or_default())
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // Before a marker there may be any number of the first byte of one.
        while let [0xFF, 0xFF, ..] = self.0 {
            self.0 = &self.0[1..];
        }
        let [0xFF, marker, rest @ ..] = self.0 else { return None };
        // What has no length, or is no marker: either would be read past differently by the decoder.
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9) {
            return None;
        }
        let len = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        let segment = rest.get(2..len)?;
        self.0 = if *marker == 0xDA { &[] } else { &rest[len..] };
        Some((*marker, segment))
    }
}

/// Whether a decoder holds all of a file's picture before the first pixel is made: where it is not
/// one scan of all components, or can't be followed.
pub fn is_decoded_whole(file: &[u8]) -> bool {
    let (mut components, mut scanned) = (None, None);
    for (marker, segment) in Segments::new(file) {
        match marker {
            0xC0 | 0xC1 => components = segment.get(5),
            0xDA => scanned = segment.first(),
            _ => {}
        }
    }
    components.is_none() || components != scanned
}

#[cfg(test)]
mod tests {
    use turbojpeg::{Compressor, Image, PixelFormat};

    use super::*;

    fn jpeg(progressive: bool) -> Vec<u8> {
        let pixels: Vec<u8> = (0..3 * 48 * 32).map(|n: usize| (n * n / 97) as u8).collect();
        let format = PixelFormat::RGB;
        let image = Image { pixels: &pixels[..], width: 48, pitch: 3 * 48, height: 32, format };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_progressive(progressive).unwrap();
        compressor.compress_to_vec(image).unwrap()
    }

    #[test]
    fn only_one_scan_of_everything_is_decoded_line_by_line() {
        let whole = is_decoded_whole;
        let lines = jpeg(false);
        assert!(!whole(&lines) && whole(&jpeg(true)));
        let padded = [&lines[..2], &vec![0xFF; 1 << 20], &lines[2..]].concat();
        assert!(!whole(&padded));
        // One whose first scan has a component alone.
        let mut parted = lines.clone();
        let scan = parted.windows(2).position(|marker| marker == [0xFF, 0xDA]).unwrap();
        parted[scan + 4] = 1;
        assert!(whole(&parted));
        // What can't be followed may be anything.
        assert!(whole(&lines[..scan]) && whole(b""));
    }
}
