#version 450
#extension GL_GOOGLE_include_directive : require

// The vertical pass, if it comes second: `vertical_second` and `vertical_second_words` of the oracle.

#include "common.glsl"

// 0: samples of a plane. 1: words, two at a time.
layout(constant_id = 0) const uint FORM = 0u;

ivec4 product(int weight, ivec4 words) { return (weight * words + (1 << 14)) >> 15; }

// Four words of a line from `x` on; those behind its end mean nothing.
ivec4 words_of(uint number, uint x) {
    uint at = from + number * from_pitch + (x >> 1);
    ivec2 one = two(lines[at]);
    ivec2 other = two(lines[at + 1u]);
    if ((x & 1u) == 0u) {
        return ivec4(one, other);
    }
    return ivec4(one.y, other, two(lines[at + 2u]).x);
}

// The sums of four samples from `x` on.
ivec4 sums_of(uint x, uint y) {
    uint tap = tables[starts + 2u * y];
    uint counts = tables[starts + 2u * y + 1u];
    uint pairs_end = tap + 2u * (counts & 0xffffu);
    uint singles_end = pairs_end + 2u * (counts >> 16);
    ivec4 total = ivec4(0);
    for (; tap < pairs_end; tap += 2u) {
        uint both = tables[tap];
        ivec4 words = words_of(both & 0xffffu, x) + words_of(both >> 16, x);
        total += product(int(tables[tap + 1u]), words);
    }
    for (; tap < singles_end; tap += 2u) {
        total += product(int(tables[tap + 1u]), words_of(tables[tap], x));
    }
    return total;
}

uvec4 rounded(ivec4 sums) {
    return uvec4(clamp(((sums + (1 << (fraction_bits - 1u))) >> fraction_bits) + 128, 0, 255));
}

uint made(uint x, uint y) { return rounded(sums_of(x, y)).x; }

#define MADE_FOUR
uint made_four(uint x, uint y) {
    uvec4 bytes = rounded(sums_of(x, y));
    return bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24;
}

#include "bytes.glsl"

void main() {
    if (FORM == 0u) {
        write_bytes();
    } else if (element() < width && row() < rows) {
        ivec4 sums = sums_of(2u * element(), row());
        lines[to + row() * to_pitch + element()] = two_words(sums.x, sums.y);
    }
}
