#version 450
#extension GL_GOOGLE_include_directive : require

// The horizontal pass, if it comes first: `across`, `across_words`, `widen` and `words` of the oracle. Makes
// lines of words, two at a time.

#include "common.glsl"
#include "samples.glsl"

// 0: windows of bytes. 1: windows of words. 2: words as they are.
layout(constant_id = 0) const uint FORM = 0u;

int made(uint start, uint x) {
    if (FORM == 2u) {
        return sample_word(start, first + x);
    }
    uint i = tables[starts + x];
    if (FORM == 0u) {
        int sum = int(tables[constants + (x & 3u)]);
        for (uint tap = 0u; tap < count; tap++, i += step) {
            sum += weight_of(x, tap) * int(source_byte(start + i));
        }
        return sum >> 7;
    }
    int sum = 1 << 13;
    for (uint tap = 0u; tap < count; tap++, i += step) {
        sum += weight_of(x, tap) * sample_word(start, i);
    }
    return clamp(sum >> 14, -32768, 32767);
}

void main() {
    if (element() >= width || row() >= rows) {
        return;
    }
    uint start = from + (first_row + row()) * from_pitch;
    uint x = 2u * element();
    int high = x + 1u < samples ? made(start, x + 1u) : 0;
    lines[to + row() * to_pitch + element()] = two_words(made(start, x), high);
}
