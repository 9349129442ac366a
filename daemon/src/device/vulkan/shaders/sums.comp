#version 450
#extension GL_GOOGLE_include_directive : require

// Both passes in single precision, of rows that become words first and shrink beyond what those can add up:
// `words_row` of the oracle. Sums are added in its order, none of them fused.

#include "common.glsl"
#include "samples.glsl"

// 0: sums of columns. 1: words of windows of sums, two at a time.
layout(constant_id = 0) const uint FORM = 0u;

float column(uint x) {
    precise float total = 0.0;
    uint start = from + tables[starts + row()] * from_pitch;
    for (uint tap = 0u; tap < count; tap++, start += from_pitch) {
        float weight = float(weights_of(row(), tap & ~1u)[tap & 1u]);
        precise float product = weight * float(sample_word(start, x));
        total = total + product;
    }
    return total;
}

int made(uint x) {
    precise float total = 0.0;
    uint i = from + row() * from_pitch + tables[starts + x];
    for (uint tap = 0u; tap < count; tap++, i += step) {
        float weight = float(weights_of(x, tap & ~1u)[tap & 1u]);
        precise float product = weight * uintBitsToFloat(lines[i]);
        total = total + product;
    }
    // Both weights have 14 fraction bits. Multiplied by 2^-28: devices need not be exact in dividing.
    return int(clamp(roundEven(total * uintBitsToFloat((127u - 28u) << 23)), -32768.0, 32767.0));
}

void main() {
    if (element() >= width || row() >= rows) {
        return;
    }
    uint at = to + row() * to_pitch + element();
    if (FORM == 0u) {
        lines[at] = floatBitsToUint(column(element()));
    } else {
        uint x = 2u * element();
        lines[at] = two_words(made(x), x + 1u < samples ? made(x + 1u) : 0);
    }
}
