// The step from samples to words of 6 fraction bits, centred on zero: `to_words` of the oracle.

// 0: a byte each. 1: ten bits in the lower ones of 16. 2: ten bits in the upper ones of 16. 3: three colours
// to be weighed by their opacity.
layout(constant_id = 1) const uint SAMPLES = 0u;

// Of sample `i` in the row that starts with byte `start`.
int sample_word(uint start, uint i) {
    if (SAMPLES == 1u) {
        return (int(min(source_half(start + 2u * i), 1023u)) - 512) << 4;
    }
    if (SAMPLES == 2u) {
        return (int(source_half(start + 2u * i) >> 6) - 512) << 4;
    }
    uint value = source_byte(start + i);
    if (SAMPLES == 3u && (i & 3u) != 3u) {
        uint alpha = source_byte(start + (i | 3u));
        return int((value * alpha * 64u + 127u) / 255u) - (128 << 6);
    }
    return (int(value) - 128) << 6;
}
