#version 450
#extension GL_GOOGLE_include_directive : require

// The vertical pass, if it comes first: `vertical_first` and `vertical_first_words` of the oracle. Makes
// words of four columns, which of bytes are one element of each row.

#include "common.glsl"
#include "samples.glsl"

// Bytes as they are, all other samples as words.
ivec4 columns(uint start, uint x) {
    if (SAMPLES != 0u) {
        return ivec4(sample_word(start, x), sample_word(start, x + 1u), sample_word(start, x + 2u),
                     sample_word(start, x + 3u));
    }
    uint four = source[(start + x) >> 2];
    return ivec4(four & 0xffu, (four >> 8) & 0xffu, (four >> 16) & 0xffu, four >> 24);
}

void main() {
    uint x = first + 4u * element();
    if (x >= samples || row() >= rows) {
        return;
    }
    // Weights have 14 fraction bits; words have 6, bytes have none.
    int bits = SAMPLES == 0u ? 8 : 14;
    ivec4 sums = ivec4(1 << (bits - 1));
    uint start = from + tables[starts + row()] * from_pitch;
    for (uint tap = 0u; tap < count; tap += 2u, start += 2u * from_pitch) {
        ivec2 pair = weights_of(row(), tap);
        sums += pair.x * columns(start, x);
        if (tap + 1u < count) {
            sums += pair.y * columns(start + from_pitch, x);
        }
    }
    sums = clamp(sums >> bits, -32768, 32767);
    uint line = to + row() * to_pitch + (x >> 1);
    lines[line] = two_words(sums.x, sums.y);
    if (x + 2u < samples) {
        lines[line + 1u] = two_words(sums.z, sums.w);
    }
}
