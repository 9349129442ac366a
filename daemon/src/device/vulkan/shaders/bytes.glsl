// The end of a plane that stays 8 bits a sample: four samples of a row, padding included, in one element of
// the target. To be included behind `uint made(uint sample_of_picture, uint row_of_picture)`; a shader that
// makes four at once cheaper defines MADE_FOUR and `uint made_four(uint, uint)`.

#ifndef MADE_FOUR
uint made_four(uint x, uint y) {
    return made(x, y) | made(x + 1u, y) << 8 | made(x + 2u, y) << 16 | made(x + 3u, y) << 24;
}
#endif

void write_bytes() {
    if (element() >= width || row() >= rows) {
        return;
    }
    uint i = 4u * element();
    uint four = 0u;
    if (in_picture(i, row()) && in_picture(i + 3u, row())) {
        four = made_four(i - left, row() - top);
    } else {
        for (uint b = 0u; b < 4u; b++) {
            uint value = in_picture(i + b, row()) ? made(i + b - left, row() - top) : pad(i + b, (i + b) % channels);
            four |= value << (8u * b);
        }
    }
    target[to + row() * to_pitch + element()] = four;
}
