#version 450
#extension GL_GOOGLE_include_directive : require

// What is cut out of a plane unchanged.

#include "common.glsl"

uint made(uint x, uint y) { return source_byte(from + (first_row + y) * from_pitch + first + x); }

#include "bytes.glsl"

void main() { write_bytes(); }
