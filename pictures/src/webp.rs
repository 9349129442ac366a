//! Owns what is looked at in a WebP before its decoder is let near: that allocates what a chunk
//! claims to hold, and decodes a frame of any size before it compares it with the picture's.
//!
//! Knows the container, RFC 9649, section 2, and of a bitstream no more than where its size stands.

use resized_client::Extent;

/// Whether the metadata are within the file, and the frame that is decoded, an animation's first, is as
/// large as the container says, which of a picture without one is `canvas`.
pub(crate) fn is_honest(file: &[u8], canvas: Extent) -> bool {
    let chunks = || Chunks(file.get(12..).unwrap_or_default());
    // Of several with a name the decoder takes the first.
    let first = |name| chunks().find(|chunk| chunk.name == name);
    [b"ICCP", b"EXIF"].into_iter().all(|name| first(name).is_none_or(|chunk| chunk.whole))
        && first(b"VP8 ").is_none_or(|chunk| lossy(chunk.body) == Some(canvas))
        && first(b"ANMF").is_none_or(|chunk| animated(chunk.body))
}

/// Whether a frame of an animation has the size that it is said to have.
fn animated(body: &[u8]) -> bool {
    let Some((head, chunks)) = body.split_first_chunk::<16>() else { return false };
    let side = |at: usize| 1 + u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]);
    let mut chunks = Chunks(chunks);
    let frame = match chunks.next() {
        Some(Chunk { name: b"VP8 ", body, .. }) => body,
        // What follows opacity is colours, whatever it is called.
        Some(Chunk { name: b"ALPH", .. }) => chunks.next().map_or(&[][..], |chunk| chunk.body),
        // Without loss: the decoder compares first.
        _ => return true,
    };
    lossy(frame) == Some(Extent::new(side(6), side(9)))
}

/// The size of a frame with loss: RFC 6386, section 9.1.
fn lossy(frame: &[u8]) -> Option<Extent> {
    let [_, _, _, 0x9D, 0x01, 0x2A, width, wide, height, high, ..] = frame else { return None };
    // The upper two bits are a scale for who shows it.
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
    Some(Extent::new(side(*width, *wide), side(*height, *high)))
}

/// The chunks of a container, or of one in it.
struct Chunks<'a>(&'a [u8]);

struct Chunk<'a> {
    name: &'a [u8; 4],
    /// As much as there is of it.
    body: &'a [u8],
    /// Whether that is as much as it claims.
    whole: bool,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (name, rest) = self.0.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let len = u32::from_le_bytes(*len) as usize;
        let body = &rest[..len.min(rest.len())];
        // Made even.
        self.0 = rest.get(len.saturating_add(len % 2)..).unwrap_or_default();
        Some(Chunk { name, body, whole: body.len() == len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANVAS: Extent = Extent::new(0x123, 0x45);

    fn chunk(name: &[u8], body: &[u8]) -> Vec<u8> {
        let padding = &[0][..body.len() % 2];
        [name, &(body.len() as u32).to_le_bytes(), body, padding].concat()
    }

    fn vp8(Extent { width, height }: Extent) -> Vec<u8> {
        let sides = [width as u16 | 0x4000, height as u16].map(u16::to_le_bytes).concat();
        chunk(b"VP8 ", &[&[0, 0, 0, 0x9D, 1, 0x2A], &sides[..], &[7; 5]].concat())
    }

    fn anmf(Extent { width, height }: Extent, frame: &[u8]) -> Vec<u8> {
        let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
        chunk(b"ANMF", &[&[0; 6], &side(width)[..], &side(height), &[0; 4], frame].concat())
    }

    fn honest(chunks: &[&[u8]]) -> bool {
        is_honest(&[b"RIFF....WEBP", &chunks.concat()[..]].concat(), CANVAS)
    }

    #[test]
    fn frames_are_as_large_as_the_container_says() {
        let (good, huge) = (vp8(CANVAS), vp8(Extent::new(16_383, 16_383)));
        assert!(honest(&[]) && honest(&[&good]) && honest(&[&chunk(b"odd ", b"x"), &good, &huge]));
        assert!(!honest(&[&huge]) && !honest(&[&chunk(b"odd ", b"x"), &huge, &good]));
        assert!(!honest(&[&good[..12]]), "it has no size");
        // A frame of an animation may be smaller than the canvas.
        let (size, small) = (Extent::new(3, 2), vp8(Extent::new(3, 2)));
        let alpha = chunk(b"ALPH", &[0; 7]);
        assert!(honest(&[&anmf(size, &small)]) && honest(&[&anmf(size, &chunk(b"VP8L", b"/"))]));
        assert!(honest(&[&anmf(size, &[&alpha[..], &small].concat())]));
        assert!(!honest(&[&anmf(size, &good)]) && !honest(&[&anmf(size, &alpha)]));
        let other = [&alpha[..], b"else", &good[4..]].concat();
        assert!(!honest(&[&anmf(size, &other)]) && !honest(&[&chunk(b"ANMF", b"short")]));
    }

    #[test]
    fn metadata_are_within_the_file() {
        for name in [b"ICCP", b"EXIF"] {
            let whole = chunk(name, &[1; 8]);
            assert!(honest(&[&whole]) && !honest(&[&whole[..15]]));
            let claims = [&name[..], &u32::MAX.to_le_bytes(), &[1; 8]].concat();
            assert!(!honest(&[&claims]));
        }
        // What nobody reads may be cut off.
        assert!(honest(&[b"XMP ", &[0xFF; 9]]));
    }
}
