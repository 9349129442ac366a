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
    use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

    use super::*;
    use crate::Decoder;

    fn compressed(change: impl FnOnce(&mut Compressor) -> turbojpeg::Result<()>) -> Vec<u8> {
        let pixels: Vec<u8> = (0..3 * 48 * 32).map(|n: usize| (n * n / 97) as u8).collect();
        let format = PixelFormat::RGB;
        let image = Image { pixels: &pixels[..], width: 48, pitch: 3 * 48, height: 32, format };
        let mut compressor = Compressor::new().unwrap();
        change(&mut compressor).unwrap();
        compressor.compress_to_vec(image).unwrap()
    }

    fn jpeg(progressive: bool) -> Vec<u8> {
        compressed(|compressor| compressor.set_progressive(progressive))
    }

    /// Where the first of those markers is.
    fn marker(jpeg: &[u8], marker: u8) -> usize {
        jpeg.windows(2).position(|bytes| bytes == [0xFF, marker]).unwrap()
    }

    /// Whether the decoder makes pixels of it. It may complain afterwards.
    fn begins(jpeg: &[u8]) -> bool {
        const UNTOUCHED: u8 = 0xA5;
        let mut pixels = vec![UNTOUCHED; 3 * 48 * 32];
        let format = PixelFormat::RGB;
        let image = Image { pixels: &mut pixels[..], width: 48, pitch: 3 * 48, height: 32, format };
        let _ = Decoder::new(jpeg, 64).and_then(|decoder| decoder.decode(1, image));
        pixels.iter().any(|&byte| byte != UNTOUCHED)
    }

    /// Whether the decoder holds all of it before the first pixel is made: then it makes none of a
    /// JPEG with a fatal marker before its end. None if it never makes any.
    fn held(jpeg: &[u8]) -> Option<bool> {
        let (picture, end) = jpeg.split_at(jpeg.len() - 2);
        let fatal = [picture, &[0xFF, 0xC8], end].concat();
        begins(jpeg).then(|| !begins(&fatal))
    }

    #[test]
    fn only_one_scan_of_everything_is_decoded_line_by_line() {
        let whole = is_decoded_whole;
        let lines = jpeg(false);
        assert!(!whole(&lines) && whole(&jpeg(true)));
        let padded = [&lines[..2], &vec![0xFF; 1 << 20], &lines[2..]].concat();
        assert!(!whole(&padded));
        // What can't be followed may be anything.
        assert!(whole(&lines[..marker(&lines, 0xDA)]) && whole(b""));
    }

    #[test]
    fn what_the_decoder_holds_is_held_and_what_is_not_followed_may_be() {
        let plain = jpeg(false);
        let (frame, scan) = (marker(&plain, 0xC0), marker(&plain, 0xDA));
        let kind = |kind: u8| {
            let mut jpeg = plain.clone();
            jpeg[frame + 1] = kind;
            jpeg
        };
        let first = |segment: &[u8]| [&plain[..2], segment, &plain[2..]].concat();
        let header = &plain[frame..][..2 + 8 + 3 * 3];
        // Whoever takes the marker for a segment's, whose length the next one's bytes would be, comes
        // upon another frame, in the second of two comments.
        let astray = |marker: u8| {
            let comment = |len: u16| [&[0xFF, 0xFE], &len.to_be_bytes()[..]].concat();
            let other = [&[0; 250], header, &plain[scan..][..14]].concat();
            let first = [&comment(u16::MAX)[..], &[0; 0xFFFA], &[0xFF, 0xFE, 0]].concat();
            let second = [&comment(other.len() as u16 + 2)[..], &other].concat();
            let held = jpeg(true);
            [&held[..2], &[0xFF, marker], &first, &second, &held[2..]].concat()
        };
        let twice = |kind: u8| {
            let other = [&[0xFF, kind], &header[2..]].concat();
            [&plain[..frame], &other, &plain[frame..]].concat()
        };
        // Scans that begin with those components, each with the same data.
        let (data, end) = plain[scan + 2 + 12..].split_at(plain.len() - 2 - (scan + 2 + 12));
        let scans = |scans: &[&[u8]]| {
            let one = |components: &&[u8]| {
                let count = components.len() as u8;
                let tables = components.iter().flat_map(|&id| [id, if id == 1 { 0 } else { 0x11 }]);
                let head = [0xFF, 0xDA, 0, 6 + 2 * count, count].into_iter().chain(tables);
                head.chain([0, 63, 0]).chain(data.iter().copied()).collect::<Vec<u8>>()
            };
            let scans: Vec<u8> = scans.iter().flat_map(one).collect();
            [&plain[..scan], &scans, end].concat()
        };
        let gray = compressed(|compressor| compressor.set_subsamp(Subsamp::Gray));
        let arithmetic = compressed(|compressor| compressor.set_arithmetic(true));
        let lossless = compressed(|compressor| compressor.set_lossless(true));
        for (what, jpeg, whole, decoder) in [
            ("SOF0", plain.clone(), false, Some(false)),
            ("SOF0, gray", gray, false, Some(false)),
            ("SOF0, as it was", scans(&[&[1, 2, 3]]), false, Some(false)),
            ("SOF1", kind(0xC1), false, Some(false)),
            ("SOF2", jpeg(true), true, Some(true)),
            // What few write: it may be taken for more than it takes.
            ("SOF9", arithmetic, true, Some(false)),
            ("SOF3", lossless, true, Some(false)),
            ("SOF5", kind(0xC5), true, None),
            ("SOF0 twice", twice(0xC0), false, None),
            ("SOF2, SOF0", twice(0xC2), false, None),
            ("a comment", first(&[0xFF, 0xFE, 0, 4, 0xFF, 0xC2]), false, Some(false)),
            ("padding", first(&[0xFF; 7]), false, Some(false)),
            ("TEM", first(&[0xFF, 0x01]), true, Some(false)),
            ("RST0", first(&[0xFF, 0xD0]), true, Some(false)),
            ("TEM, and another frame", astray(0x01), true, Some(true)),
            ("RST7, and another frame", astray(0xD7), true, Some(true)),
            ("no marker", first(&[0xFF, 0x00]), true, None),
            ("no bytes of a length", first(&[0xFF, 0xFE, 0, 0]), true, Some(false)),
            ("one byte of a length", first(&[0xFF, 0xFE, 0, 1]), true, Some(false)),
            ("a length behind the end", first(&[0xFF, 0xFE, 0xFF, 0xFF]), true, None),
            ("one component each", scans(&[&[1], &[2], &[3]]), true, Some(true)),
            ("two components, one", scans(&[&[1, 2], &[3]]), true, Some(true)),
            ("one component, two", scans(&[&[1], &[2, 3]]), true, Some(true)),
            ("one component alone", scans(&[&[2]]), true, Some(true)),
            ("all, and all again", scans(&[&[1, 2, 3], &[1, 2, 3]]), false, Some(false)),
        ] {
            assert_eq!((is_decoded_whole(&jpeg), held(&jpeg)), (whole, decoder), "{what}");
            assert!(whole || decoder != Some(true), "{what}");
        }
    }
}
