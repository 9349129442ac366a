#version 450
#extension GL_GOOGLE_include_directive : require

// The horizontal pass, if it comes first: `horizontal_first`, `horizontal_first_words`, `widen` and
// `to_words` of the oracle. Makes two words of each of four rows, which share the weights.

#include "common.glsl"
#include "samples.glsl"

// 0: windows of bytes. 1: windows of words. 2: words as they are. 3: windows of bytes that follow each other,
// each from a whole element on.
layout(constant_id = 0) const uint FORM = 0u;

// `ROWS` in program/dispatch.rs.
const uint ROWS = 4u;

// Where the rows that are read start, in bytes: behind the last that is wanted, that one again.
uint starts_of[ROWS];

// Word `x` of each row.
ivec4 made(uint x) {
    ivec4 sums;
    if (FORM == 2u) {
        for (uint r = 0u; r < ROWS; r++) {
            sums[r] = sample_word(starts_of[r], first + x);
        }
        return sums;
    }
    uint i = tables[starts + x];
    if (FORM == 1u) {
        sums = ivec4(1 << 13);
        for (uint tap = 0u; tap < count; tap += 2u, i += 2u * step) {
            ivec2 pair = weights_of(x, tap);
            for (uint r = 0u; r < ROWS; r++) {
                int one = sample_word(starts_of[r], i);
                sums[r] += pair.x * one + pair.y * sample_word(starts_of[r], i + step);
            }
        }
        return clamp(sums >> 14, -32768, 32767);
    }
    sums = ivec4(int(tables[constants + (x & 3u)]));
    if (FORM == 3u) {
        for (uint tap = 0u; tap < count; tap += 4u, i += 4u) {
            ivec2 one = weights_of(x, tap);
            ivec2 other = weights_of(x, tap + 2u);
            for (uint r = 0u; r < ROWS; r++) {
                uint four = source[(starts_of[r] + i) >> 2];
                ivec2 low = ivec2(four & 0xffu, (four >> 8) & 0xffu) * one;
                ivec2 high = ivec2((four >> 16) & 0xffu, four >> 24) * other;
                sums[r] += low.x + low.y + high.x + high.y;
            }
        }
    } else {
        for (uint tap = 0u; tap < count; tap += 2u, i += 2u * step) {
            ivec2 pair = weights_of(x, tap);
            for (uint r = 0u; r < ROWS; r++) {
                int one = int(source_byte(starts_of[r] + i));
                sums[r] += pair.x * one + pair.y * int(source_byte(starts_of[r] + i + step));
            }
        }
    }
    return sums >> 7;
}

void main() {
    uint y = ROWS * row();
    if (element() >= width || y >= rows) {
        return;
    }
    for (uint r = 0u; r < ROWS; r++) {
        starts_of[r] = from + (first_row + min(y + r, rows - 1u)) * from_pitch;
    }
    uint x = 2u * element();
    ivec4 low = made(x);
    ivec4 high = x + 1u < samples ? made(x + 1u) : ivec4(0);
    for (uint r = 0u; r < ROWS && y + r < rows; r++) {
        lines[to + (y + r) * to_pitch + element()] = two_words(low[r], high[r]);
    }
}
