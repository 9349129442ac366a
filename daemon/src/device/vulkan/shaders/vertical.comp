#version 450
#extension GL_GOOGLE_include_directive : require

// The vertical pass, if it comes first: `vertical` of the oracle. Makes words of columns, two at a time.

#include "common.glsl"

int made(uint column) {
    int sum = 1 << 7;
    uint at = from + tables[starts + row()] * from_pitch + column;
    for (uint tap = 0u; tap < count; tap++, at += from_pitch) {
        sum += weight_of(row(), tap) * int(source_byte(at));
    }
    return clamp(sum >> 8, -32768, 32767);
}

void main() {
    if (element() >= width || row() >= rows) {
        return;
    }
    uint x = first + 2u * element();
    int high = x + 1u < samples ? made(x + 1u) : 0;
    lines[to + row() * to_pitch + (x >> 1)] = two_words(made(x), high);
}
