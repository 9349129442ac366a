#version 450
#extension GL_GOOGLE_include_directive : require

// The step from lines of words to another format: `mix` of the oracle. Each channel is a sum of weighted
// words, in single precision; it differs from the oracle's by a last place where a device does not fuse what
// is added.

#include "common.glsl"

// 0: bytes. 1: signed bytes. 2: half precision. 3: single precision. 4: ten bits in the lower ones of 16.
// 5: ten bits in the upper ones of 16.
layout(constant_id = 0) const uint NUMBER = 0u;

// Rows follow each other without a gap, and so do planes: an element may hold the end of one and the start
// of the next.
layout(constant_id = 1) const bool DENSE = false;

const uint BYTES = NUMBER == 3u ? 4u : (NUMBER < 2u ? 1u : 2u);
const uint EACH = 4u / BYTES;

// Of a place: first element and pitch of its lines, its first word, the step to the next one.
const uint PLACE = 4u;
// Of a channel: four weights, middle, bias, least, greatest, whether it is weighed by opacity.
const uint SUM = 9u;

// Adding it leaves a number of less than 2^22 rounded, ties to even, in the lowest bits.
const float ROUNDING = 12582912.0;

float word_at(uint place, uint x, uint y) {
    uint at = places + place * PLACE;
    uint line = tables[at] + y * tables[at + 1u];
    return float(word(line, tables[at + 2u] + x * tables[at + 3u]));
}

float number(uint i) { return uintBitsToFloat(tables[i]); }

uint rounded(float value) {
    precise float sum = value + ROUNDING;
    return floatBitsToUint(sum);
}

// Rounds to nearest, ties to even; of a finite number.
uint half_of(float value) {
    uint all = floatBitsToUint(value);
    uint sign = (all >> 16) & 0x8000u;
    uint bits = all & 0x7fffffffu;
    uint finite;
    if (bits < (113u << 23)) {
        precise float subnormal = uintBitsToFloat(bits) + 0.5;
        finite = floatBitsToUint(subnormal) - (126u << 23);
    } else {
        finite = (bits - (112u << 23) + 0xfffu + ((bits >> 13) & 1u)) >> 13;
    }
    return sign | (bits >= (143u << 23) ? 0x7c00u : finite);
}

uint stored(float value) {
    switch (NUMBER) {
    case 0u:
        return rounded(value) & 0xffu;
    case 1u:
        return rounded(clamp(value, -128.0, 127.0)) & 0xffu;
    case 2u:
        return half_of(value);
    case 3u:
        return floatBitsToUint(value);
    case 4u:
        return rounded(value) & 0xffffu;
    default:
        return (rounded(value) << 6) & 0xffffu;
    }
}

// What colours that were weighed by an opacity are to be multiplied with: nothing, where it rounds to none.
float share(uint x, uint y) {
    // 2^-fraction_bits: devices need not be exact in exp2.
    float unit = uintBitsToFloat((127u - fraction_bits) << 23);
    float alpha = fma(unit, word_at(weight, x, y), 128.0);
    return alpha >= 0.5 ? 255.0 / alpha : 0.0;
}

// Channel `c` of all planes, of a pixel of the picture.
uint mixed(uint c, uint x, uint y) {
    uint at = sums + c * SUM;
    precise float total = number(at + 4u);
    for (uint place = 0u; place < place_count; place++) {
        total = fma(number(at + place), word_at(place, x, y), total);
    }
    if (tables[at + 8u] != 0u) {
        total = fma(total, share(x, y), number(at + 5u));
    }
    return stored(min(max(total, number(at + 6u)), number(at + 7u)));
}

// Sample `i` of a row of a plane, the `nth` that is mixed.
uint made(uint nth, uint i, uint y) {
    uint c = nth * channels + i % channels;
    return in_picture(i, y) ? mixed(c, (i - left) / channels, y - top) : pad(i, c);
}

void main() {
    if (DENSE) {
        uint at = row() * gl_NumWorkGroups.x * gl_WorkGroupSize.x + element();
        uint plane_samples = row_samples * plane_rows;
        uint end = plane_samples * planes;
        if (at * EACH >= end) {
            return;
        }
        uint value = 0u;
        uint kept = 0u;
        for (uint e = 0u; e < EACH; e++) {
            uint i = at * EACH + e;
            uint shift = e * BYTES * 8u;
            if (i < end) {
                uint rest = i % plane_samples;
                uint bits = made(i / plane_samples, rest % row_samples, rest / row_samples);
                value |= bits << shift;
            } else {
                kept |= (BYTES == 1u ? 0xffu : 0xffffu) << shift;
            }
        }
        // Behind the tensor nothing is the daemon's to write.
        target[to + at] = kept == 0u ? value : value | (target[to + at] & kept);
    } else if (element() < width && row() < rows) {
        uint value = 0u;
        for (uint e = 0u; e < EACH; e++) {
            value |= made(plane, EACH * element() + e, row()) << (e * BYTES * 8u);
        }
        target[to + row() * to_pitch + element()] = value;
    }
}
