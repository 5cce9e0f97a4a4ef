// SPDX-License-Identifier: Apache-2.0
// Memories that belong to the vector unit alone, and the decoding of parameter words (docs/program.md).
#pragma once
#include "commands.hpp"
#include "load.hpp"
#include "round.hpp"

namespace zq {

constexpr int kNoRow = 255;                // of a lane without a sentence
constexpr int kTables = 3;                 // exp, activation, pooler: looked up in every lane at once
constexpr int kTableCopies = kLanes / 2;  // a dual-ported copy serves two lanes
enum table_id { kTableExp, kTableActivation, kTablePooler, kTableExit, kTableClock, kTableIds };

using sum_t = sint<27>;           // N * 32767 with N <= 1024
using square_sum_t = uint<41>;    // N * 32767^2
using reciprocal_t = uint<16>;

// What the off-ramps of a pass know of the sentences, a lane each.
struct exit_state {
  sint<22> top[kLanes];        // P, S and T of Q21
  uint<39> total[kLanes];
  uint<54> distances[kLanes];
  uint<6> layer[kLanes];       // at which it left, 0: not yet
  uint<6> depth[kLanes];       // exits that it has passed, where they are counted
  uint<15> entropy[kLanes];    // there
  uint<8> foretold[kLanes];    // layer, 0: none
  uint<15> first_entropy[kLanes];  // at the ramp that foretold
  sint<3> output;              // of the wizard, chosen there, -1: none
  byte_t layers[256];          // the exit table: entropy to layer
  byte_t outputs[256];         // the clock table: layer to output
};

struct vector_state {
  half_word residual[kRowBlocks][kMaxWidth];
  lanes<sum_t, kLanes> sum[kRowBlocks];
  lanes<square_sum_t, kLanes> square_sum[kRowBlocks];
  uint<8> key_begin[kRows];
  uint<8> key_end[kRows];
  byte_t result_row[kLanes];
  byte_t table[kTables][kTableCopies][256];
  half_word score[kRows];
  uint<16> head_factor[kHeadWords];  // m [7:0], s [12:8]: of each head its scores', then its context channels'
  lanes<reciprocal_t, kLanes> reciprocal[kSlots];
  lanes<uint<4>, kLanes> exponent[kSlots];
  exit_state exits;
};

struct scale_factor {
  uint<8> m;
  int s;
};

inline scale_factor decode_factor(const uint<16>& word) {
#pragma HLS INLINE
  scale_factor f;
  f.m = uint<8>(word & uint<16>(255));
  f.s = ((word >> 8) & uint<16>(31)).to_int();
  return f;
}

struct linear_parameters {
  sint<kAccBits> bias;
  uint<8> m;
  int s;
  bool table;
  scale_factor branch;  // of Q25
};

inline linear_parameters decode_linear(const uint<64>& word) {
#pragma HLS INLINE
  linear_parameters p;
  const uint<32> low = uint<32>(word & uint<64>(0xFFFFFFFFu));
  const sint<34> negative = low > 2147483647 ? sint<34>(1) : sint<34>(0);
  p.bias = sint<kAccBits>(sint<34>(low) - sint<34>(negative << 32));
  p.m = uint<8>((word >> 32) & uint<64>(255));
  p.s = ((word >> 40) & uint<64>(31)).to_int();
  p.table = ((word >> 45) & uint<64>(1)) == 1;
  p.branch = decode_factor(uint<16>((word >> 46) & uint<64>(0x1FFF)));
  return p;
}

struct norm_parameters {
  sint<8> gamma;
  int gamma_shift;
  sint<8> beta;
  int beta_shift;
  bool continues;
};

inline norm_parameters decode_norm(const uint<64>& word) {
#pragma HLS INLINE
  norm_parameters p;
  p.gamma = as_signed(byte_t(word & uint<64>(255)));
  p.gamma_shift = ((word >> 8) & uint<64>(31)).to_int();
  p.beta = as_signed(byte_t((word >> 16) & uint<64>(255)));
  p.beta_shift = ((word >> 24) & uint<64>(15)).to_int();
  p.continues = ((word >> 28) & uint<64>(1)) == 1;
  return p;
}

// int16 saturation of the residual stream: -32767 .. 32767.
template <int W>
half_t clamp_half(const sint<W>& x) {
#pragma HLS INLINE
  return clamp<16>(x, -32767, 32767);
}

inline byte_t to_byte(const sint<9>& x) {
#pragma HLS INLINE
  return x < 0 ? byte_t(x + sint<10>(256)) : byte_t(x);
}

}  // namespace zq
