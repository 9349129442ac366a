//! Owns what a decoder keeps of a file beside its picture: a copy of it, where it has padding, and what
//! TurboJPEG saves. Where colour profiles lie, in APP2 segments, it saves each one until the file's end, also
//! behind the picture, and of other segments none.
//!
//! Invariant: no decoder sees more markers of such segments than a profile has parts, however it
//! reads the file: the bytes of one are counted wherever they lie. Each costs memory of its own, so
//! millions of empty ones would cost far more than the file.

use memchr::memmem;
use turbojpeg::{Error, Result};

/// Most parts of a colour profile, whose numbers are bytes: ICC.1, annex B.4.
const PARTS: usize = u8::MAX as usize;

/// Longest part, and what the library takes beside it.
const PART: u64 = (1 << 16) + 128;

/// The segments, the profile made of them, and the next one made of them as the header is read again
/// for decoding, while the first is still there.
const COPIES: u64 = 3;

/// Most memory that a decoder of a file of that length takes beside what pixels take.
pub fn most_saved_bytes(len: usize) -> u64 {
    saved_bytes(PARTS, len)
}

/// The same of a file with so many segments that are saved.
pub(crate) fn saved_bytes(markers: usize, len: usize) -> u64 {
    // The last one may say that it is longer than what is left of the file.
    len as u64 + COPIES * (markers as u64 * PART).min(len as u64 + PART)
}

/// As much of a file as a decoder may read, and how many segments are saved of that. Fails if there are
/// more than a profile has.
pub(crate) fn checked(file: &[u8]) -> Result<(&[u8], usize)> {
    let count = markers(file);
    if count <= PARTS {
        return Ok((file, count));
    }
    // Behind the end there may be anything, such as the film that some phones append.
    let file = &file[..end(file)];
    let count = markers(file);
    if count <= PARTS {
        return Ok((file, count));
    }
    let reason = format!("it has more than {PARTS} APP2 segments, and no colour profile has");
    Err(Error::TurboJpegError(reason))
}

/// How often the bytes of an APP2 marker are in it. None of a picture's own data are: there 0xFF
/// precedes nothing but zeros and restarts.
fn markers(file: &[u8]) -> usize {
    memmem::find_iter(file, &[0xFF, 0xE2]).count()
}

/// Where libjpeg-turbo stops reading: behind the first marker of an end that is not in a segment.
/// It reads past what is no marker or has no segment, and so does this.
pub(crate) fn end(file: &[u8]) -> usize {
    let mut at = 2;
    while let Some(skipped) =
        file.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xFF))
    {
        at += skipped + 1;
        match file[at..] {
            // The next one may be the one that begins a marker.
            [0xFF, ..] => {}
            [0xD9, ..] => return at + 1,
            [0x00..=0xBF | 0xD0..=0xD8, ..] => at += 1,
            // Where the length is too short to be one, what comes next is found all the same.
            [_, high, low, ..] => at += 1 + usize::from(u16::from_be_bytes([high, low])),
            _ => break,
        }
    }
    file.len()
}

#[cfg(test)]
mod tests {
    use turbojpeg::{Compressor, Image, PixelFormat};

    use super::*;
    use crate::Decoder;

    const EMPTY: [u8; 4] = [0xFF, 0xE2, 0, 2];
    const SIDE: usize = 40;

    /// Its first marker, its segments and its picture, its end.
    fn jpeg(progressive: bool) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let pixels: Vec<u8> = (0..3 * SIDE * SIDE).map(|n| (n * n / 97) as u8).collect();
        let format = PixelFormat::RGB;
        let image =
            Image { pixels: &pixels[..], width: SIDE, pitch: 3 * SIDE, height: SIDE, format };
        let mut compressor = Compressor::new().unwrap();
        compressor.set_progressive(progressive).unwrap();
        let jpeg = compressor.compress_to_vec(image).unwrap();
        let (start, rest) = jpeg.split_at(2);
        let (picture, end) = rest.split_at(rest.len() - 2);
        (start.to_vec(), picture.to_vec(), end.to_vec())
    }

    fn decoded(jpeg: &[u8]) -> Result<Vec<u8>> {
        let mut pixels = vec![0; 3 * SIDE * SIDE];
        let format = PixelFormat::RGB;
        let image =
            Image { pixels: &mut pixels[..], width: SIDE, pitch: 3 * SIDE, height: SIDE, format };
        Decoder::new(jpeg, 64)?.decode(1, image)?;
        Ok(pixels)
    }

    #[test]
    fn no_decoder_sees_more_of_what_it_saves_than_a_profile_has() {
        for progressive in [false, true] {
            let (start, picture, end) = jpeg(progressive);
            let good = decoded(&[&start[..], &picture, &end].concat()).unwrap();
            let padded = |parts| {
                let parts = EMPTY.repeat(parts);
                let before = [&start[..], &parts, &picture, &end].concat();
                [before, [&start[..], &picture, &parts, &end].concat()]
            };
            assert!(padded(PARTS).iter().all(|jpeg| decoded(jpeg).unwrap() == good));
            for jpeg in [padded(PARTS + 1), padded(100_000)].concat() {
                let refused = Decoder::new(&jpeg, 64).unwrap_err();
                assert!(refused.to_string().contains("APP2"), "{refused}");
            }
        }
    }

    #[test]
    fn what_lies_behind_the_end_is_not_counted_and_what_hides_the_end_is() {
        let (start, picture, end) = jpeg(false);
        let good = decoded(&[&start[..], &picture, &end].concat()).unwrap();
        let film = EMPTY.repeat(PARTS + 1);
        let note = |bytes: &[u8]| {
            let len = (bytes.len() as u16 + 2).to_be_bytes();
            [&[0xFF, 0xFE], &len[..], bytes].concat()
        };
        let filmed = [&start[..], &picture, &end, &film].concat();
        assert!(decoded(&filmed).unwrap() == good);
        // A thumbnail's end is not the file's, nor is one behind a length too short to be one.
        let thumbnail = [&start[..], &note(&[0xFF, 0xD9]), &picture, &end, &film].concat();
        assert!(decoded(&thumbnail).unwrap() == good);
        for hiding in [&note(&[0xFF, 0xD9])[..], &[0xFF, 0xFE, 0, 0], &[0xFF, 0x01], &[0xFF; 3]] {
            let hidden = [&start[..], &picture, hiding, &film, &end].concat();
            assert!(Decoder::new(&hidden, 64).is_err(), "{hiding:?}");
            let plain = [&start[..], hiding, &picture, &end].concat();
            assert!(decoded(&plain).unwrap() == good, "{hiding:?}");
        }
    }

    #[test]
    fn a_profile_of_many_parts_is_read_and_counted() {
        let (start, picture, end) = jpeg(false);
        let parts = 5;
        let profile: Vec<u8> = (1..=parts)
            .flat_map(|number| {
                let head = [0xFF, 0xE2, 0xFF, 0xFF];
                [&head[..], b"ICC_PROFILE\0", &[number, parts], &[7; 65_519]].concat()
            })
            .collect();
        let plain = [&start[..], &picture, &end].concat();
        let coloured = [&start[..], &profile, &picture, &end].concat();
        assert!(decoded(&coloured).unwrap() == decoded(&plain).unwrap());
        let saved = |file: &[u8]| Decoder::new(file, 64).unwrap().saved_bytes();
        assert_eq!(saved(&plain), plain.len() as u64);
        assert_eq!(saved(&coloured), coloured.len() as u64 + 3 * u64::from(parts) * PART);
        // However many there are, each is a part of the file.
        let padded = [&start[..], &profile, &EMPTY.repeat(PARTS - 5), &picture, &end].concat();
        assert_eq!(saved(&padded), 4 * padded.len() as u64 + 3 * PART);
        assert_eq!(saved(&padded), most_saved_bytes(padded.len()));
    }
}
