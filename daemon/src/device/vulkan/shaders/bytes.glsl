// The end of a plane that stays 8 bits a sample: four samples of a row, padding included, in one element of
// the target. To be included behind `uint made(uint sample_of_picture, uint row_of_picture)`.

void write_bytes() {
    if (element() >= width || row() >= rows) {
        return;
    }
    uint four = 0u;
    for (uint b = 0u; b < 4u; b++) {
        uint i = 4u * element() + b;
        uint value = in_picture(i, row()) ? made(i - left, row() - top) : pad(i, i % channels);
        four |= value << (8u * b);
    }
    target[to + row() * to_pitch + element()] = four;
}
