#version 450
#extension GL_GOOGLE_include_directive : require

// The vertical pass, if it comes second: `down` and `down_words` of the oracle.

#include "common.glsl"

// 0: samples of a plane. 1: words, two at a time.
layout(constant_id = 0) const uint FORM = 0u;

int product(int weight, int word) { return (weight * word + (1 << 14)) >> 15; }

int sum(uint x, uint y) {
    uint tap = tables[starts + 2u * y];
    uint counts = tables[starts + 2u * y + 1u];
    uint pairs_end = tap + 2u * (counts & 0xffffu);
    uint singles_end = pairs_end + 2u * (counts >> 16);
    int total = 0;
    for (; tap < pairs_end; tap += 2u) {
        uint both = tables[tap];
        int one = word(from + (both & 0xffffu) * from_pitch, x);
        int other = word(from + (both >> 16) * from_pitch, x);
        total += product(int(tables[tap + 1u]), one + other);
    }
    for (; tap < singles_end; tap += 2u) {
        total += product(int(tables[tap + 1u]), word(from + tables[tap] * from_pitch, x));
    }
    return total;
}

uint made(uint x, uint y) {
    int rounded = sum(x, y) + (1 << (fraction_bits - 1u));
    return uint(clamp((rounded >> fraction_bits) + 128, 0, 255));
}

#include "bytes.glsl"

void main() {
    if (FORM == 0u) {
        write_bytes();
    } else if (element() < width && row() < rows) {
        uint x = 2u * element();
        int high = x + 1u < samples ? sum(x + 1u, row()) : 0;
        lines[to + row() * to_pitch + element()] = two_words(sum(x, row()), high);
    }
}
