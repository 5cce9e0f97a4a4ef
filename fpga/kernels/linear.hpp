// SPDX-License-Identifier: Apache-2.0
// What becomes of an accumulator word: 32 rows of one output channel, one bias, m and s (Q2).
//   int8 (Q10), activation by table or direct (Q11), residual on the int16 grid (Q12), logits (Q13).
//   A branch (Q25) is what the residual takes, also on its own: an adapter's operand.
// Values for attention take the corner turn: words of 32 tokens x 1 channel become 1 token x 32 channels.
#pragma once
#include "embed.hpp"

namespace zq {

struct activated {
  activation_word word;  // as stored
  half_word value;       // as teed
};

inline activated activate(const acc_word& acc, const linear_parameters& p, const byte_t table[kTableCopies][256],
                          bool is_unsigned) {
#pragma HLS INLINE
  const half_word scaled = requantize_word(acc, p.bias, p.m, p.s);
  activated out;
activate_lanes:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    const int lo = p.table ? -128 : (is_unsigned ? 0 : -127);
    const int hi = p.table ? 127 : (is_unsigned ? 255 : 127);
    const sint<9> y = clamp<9>(scaled[t], lo, hi);
    const byte_t b = p.table ? table[t / 2][(y + sint<9>(128)).to_int()] : to_byte(y);
    out.word[t] = b;
    out.value[t] = half_t(b);
  }
  return out;
}

inline void vector_to_activation(const vector_command& c, hls::stream<acc_word>& accumulators,
                                 const uint<64> parameters[kSlots][kParameterWords], vector_state& state,
                                 activation_word activations[kActivationWords],
                                 activation_word key_value[kGroups][kKeyValueWords],
                                 hls::stream<half_word>& stored) {
  const int slot = c.slot.to_int();
  const int words = c.words.to_int();
  const int rb = c.row_block.to_int();
  const int base = c.address.to_int();
  const bool keys = c.destination == kToKeys;
  const int key_base = (rb / kKeyGroups) * kMaxWidth + c.channel.to_int();
vector_linear:
  for (int n = 0; n < words; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_linear);
    const activated y =
        activate(accumulators.read(), decode_linear(parameters[slot][n]), state.table[c.table.to_int()], c.unsigned_output == 1);
    if (keys)
      key_value[rb % kKeyGroups][key_base + n] = y.word;
    else
      activations[base + n] = y.word;
    if (c.tee == 1) stored.write(y.value);
  }
}

inline void vector_to_values(const vector_command& c, hls::stream<acc_word>& accumulators,
                             const uint<64> parameters[kSlots][kParameterWords], vector_state& state,
                             activation_word key_value[kGroups][kKeyValueWords], hls::stream<half_word>& stored) {
  const int slot = c.slot.to_int();
  const int words = c.words.to_int();
  const int row = c.row_block.to_int() * kLanes;
  const int head_width = c.head_width.to_int();
  byte_t plane[2][kLanes][kLanes];  // [phase][channel][token]
vector_turn:
  for (int n = 0; n < words + kLanes; ++n) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = plane type = inter false
    trip(loop::vector_turn);
    const int phase = (n / kLanes) % 2;
    if (n >= kLanes) {
      const int first = c.channel.to_int() + (n / kLanes - 1) * kLanes;  // channel of the block leaving
      activation_word out;
    vector_turn_out:
      for (int j = 0; j < kLanes; ++j) {
#pragma HLS UNROLL
        out[j] = plane[1 - phase][j][n % kLanes];
      }
      key_value[(first % head_width) / kLanes][kValueBase + (first / head_width) * kRows + row + n % kLanes] = out;
    }
    if (n < words) {
      const activated y = activate(accumulators.read(), decode_linear(parameters[slot][n]), state.table[0], false);
    vector_turn_in:
      for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
        plane[phase][n % kLanes][t] = y.word[t];
      }
      if (c.tee == 1) stored.write(y.value);
    }
  }
}

// (Q25) int8 of a product on the residual's grid.
inline activation_word branch_operand(const half_word& product, const scale_factor& f) {
#pragma HLS INLINE
  activation_word out;
branch_lanes:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    const sint<25> scaled = product[t] * f.m;
#pragma HLS BIND_OP variable = scaled op = mul impl = fabric
    out[t] = to_byte(clamp<9>(round_shift<25>(scaled, f.s), -127, 127));
  }
  return out;
}

inline void vector_to_residual(const vector_command& c, hls::stream<acc_word>& accumulators,
                               const uint<64> parameters[kSlots][kParameterWords], vector_state& state,
                               activation_word activations[kActivationWords], hls::stream<half_word>& stored) {
  const int slot = c.slot.to_int();
  const int words = c.words.to_int();
  const int rb = c.row_block.to_int();
  const int base = c.channel.to_int();
  const int address = c.address.to_int();
  const bool branch = c.branch == 1;
  if (c.first_tile == 1) clear_sums(state, rb);
vector_linear:
  for (int n = 0; n < words; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_linear);
    const acc_word acc = accumulators.read();
    const linear_parameters p = decode_linear(parameters[slot][n]);
    const half_word product = requantize_word(acc, p.bias, p.m, p.s);
    const half_word y = state.residual[rb][base + n];
    half_word x;
  vector_residual_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const sint<25> scaled = y[t] * c.m;
#pragma HLS BIND_OP variable = scaled op = mul impl = fabric
      const half_t residual = clamp_half<33>(round_shift<25>(scaled, c.s.to_int()));
      x[t] = clamp_half<17>(product[t] + residual);
      add_to_sums(state, rb, t, x[t]);
    }
    state.residual[rb][base + n] = x;
    if (branch) activations[address + n] = branch_operand(product, p.branch);
    if (c.tee == 1) stored.write(x);
  }
}

inline void vector_to_io(const vector_command& c, hls::stream<acc_word>& accumulators,
                         const uint<64> parameters[kSlots][kParameterWords], hls::stream<half_word>& stored) {
  const int slot = c.slot.to_int();
  const int words = c.words.to_int();
vector_linear:
  for (int n = 0; n < words; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_linear);
    const acc_word acc = accumulators.read();
    const linear_parameters p = decode_linear(parameters[slot][n]);
    stored.write(requantize_word(acc, p.bias, p.m, p.s));
  }
}

}  // namespace zq
