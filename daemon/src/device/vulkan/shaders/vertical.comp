#version 450
#extension GL_GOOGLE_include_directive : require

// The vertical pass, if it comes first: `vertical` of the oracle. Makes words of four columns, which are one
// element of each row.

#include "common.glsl"

void main() {
    uint x = first + 4u * element();
    if (x >= samples || row() >= rows) {
        return;
    }
    ivec4 sums = ivec4(1 << 7);
    uint at = from + tables[starts + row()] * from_pitch + x;
    for (uint tap = 0u; tap < count; tap += 2u, at += 2u * from_pitch) {
        ivec2 pair = weights_of(row(), tap);
        uint one = source[at >> 2];
        uint other = tap + 1u < count ? source[(at + from_pitch) >> 2] : 0u;
        sums += pair.x * ivec4(one & 0xffu, (one >> 8) & 0xffu, (one >> 16) & 0xffu, one >> 24);
        sums += pair.y * ivec4(other & 0xffu, (other >> 8) & 0xffu, (other >> 16) & 0xffu, other >> 24);
    }
    sums = clamp(sums >> 8, -32768, 32767);
    uint line = to + row() * to_pitch + (x >> 1);
    lines[line] = two_words(sums.x, sums.y);
    if (x + 2u < samples) {
        lines[line + 1u] = two_words(sums.z, sums.w);
    }
}
