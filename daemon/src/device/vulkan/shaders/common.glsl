// What all shaders share: the buffers of a slot, the numbers of a dispatch, and how samples, words and
// weights lie in buffers of 32 bits, of which every device can read and write whole ones.
//
// Nothing that a client writes is an address: indices come from the invocation, from the numbers of the
// dispatch and from the tables, all made by the daemon.

layout(local_size_x = 64) in;

layout(set = 0, binding = 0) restrict readonly buffer Source { uint source[]; };
layout(set = 0, binding = 1) restrict readonly buffer Tables { uint tables[]; };
// Lines of words, two in 32 bits.
layout(set = 0, binding = 2) restrict buffer Lines { uint lines[]; };
layout(set = 0, binding = 3) restrict buffer Target { uint target[]; };

// As `PushConstants` in shader/push.rs.
layout(push_constant) uniform PushConstants {
    // Rows that are read: the first one's place and the way to the next. Bytes of the source, or elements
    // of the lines.
    uint from;
    uint from_pitch;
    // Rows that are made: the same in elements of the lines or of the target.
    uint to;
    uint to_pitch;
    // How many elements a row that is made has, or, where an invocation makes several, how many of those it
    // takes; and how many rows there are.
    uint width;
    uint rows;
    // Samples that a row of the picture has.
    uint samples;
    // The first sample and row that are read.
    uint first;
    uint first_row;
    // Where windows start, and their weights, in the tables.
    uint starts;
    uint weights;
    // Weights of a window, and samples from one of them to the next.
    uint count;
    uint step;
    // Of outputs in turns, in the tables.
    uint constants;
    uint fraction_bits;
    // Samples that a row of the plane has; what lies behind them is nobody's.
    uint row_samples;
    // Where the picture lies in the plane: samples of a row, and rows.
    uint left;
    uint right;
    uint top;
    uint bottom;
    // What lies around it, for each channel, in the tables.
    uint padding;
    uint channels;
    // Only where formats are mixed: see mix.comp.
    uint places;
    uint place_count;
    uint sums;
    uint weight;
    uint plane;
    uint planes;
    uint plane_rows;
};

uint element() { return gl_GlobalInvocationID.x; }

uint row() { return gl_GlobalInvocationID.y; }

uint source_byte(uint at) { return bitfieldExtract(source[at >> 2], int(at & 3u) * 8, 8); }

uint source_half(uint at) { return bitfieldExtract(source[at >> 2], int(at & 2u) * 8, 16); }

// Word `i` of a line that starts with element `line`.
int word(uint line, uint i) { return bitfieldExtract(int(lines[line + (i >> 1)]), int(i & 1u) * 16, 16); }

ivec2 two(uint both) { return ivec2(bitfieldExtract(int(both), 0, 16), int(both) >> 16); }

// Weights `i` and `i + 1` of a window, `i` being even; the second is zero behind the last.
ivec2 weights_of(uint window, uint i) { return two(tables[weights + window * ((count + 1u) >> 1) + (i >> 1)]); }

uint two_words(int low, int high) { return (uint(low) & 0xffffu) | (uint(high) << 16); }

bool in_picture(uint sample_of_row, uint row_of_plane) {
    return sample_of_row >= left && sample_of_row < right && row_of_plane >= top && row_of_plane < bottom;
}

// What lies around the picture: zero where it fills the plane, and behind a row.
uint pad(uint sample_of_row, uint channel) {
    return padding == 0u || sample_of_row >= row_samples ? 0u : tables[padding + channel];
}
