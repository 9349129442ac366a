#version 450
#extension GL_GOOGLE_include_directive : require

// The horizontal pass, if it comes second: `horizontal_second` and `horizontal_second_words` of the
// oracle, for all channels of a row.

#include "common.glsl"

// 0: samples of a plane. 1: words, two at a time.
layout(constant_id = 0) const uint FORM = 0u;

int sum_of(uint x, uint y) {
    int sum = int(tables[constants + (x & 3u)]);
    uint i = tables[starts + x];
    uint line = from + y * from_pitch;
    for (uint tap = 0u; tap < count; tap += 2u, i += 2u * step) {
        ivec2 pair = weights_of(x, tap);
        sum += pair.x * word(line, i);
        // Behind the window there may be no line any more.
        sum += pair.y != 0 ? pair.y * word(line, i + step) : 0;
    }
    return sum;
}

uint made(uint x, uint y) { return uint(clamp(sum_of(x, y) >> 20, 0, 255)); }

#include "bytes.glsl"

int made_word(uint x) { return clamp(sum_of(x, row()) >> 14, -32768, 32767); }

void main() {
    if (FORM == 0u) {
        write_bytes();
    } else if (element() < width && row() < rows) {
        uint x = 2u * element();
        int high = x + 1u < samples ? made_word(x + 1u) : 0;
        lines[to + row() * to_pitch + element()] = two_words(made_word(x), high);
    }
}
