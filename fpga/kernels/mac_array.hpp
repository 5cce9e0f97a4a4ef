// SPDX-License-Identifier: Apache-2.0
// MAC array: T token rows by C/2 multipliers, output stationary, one tile a command (Q3, Q4, Q5).
//
// w4: columns 2j and 2j + 1 share a multiplier, n0 and n1 signed nibbles, acc[2j] = lo, acc[2j + 1] = hi.
// w8: column j, n1 the signed high and n0 the unsigned low nibble of one byte, acc = 16 * hi + lo.
//     P += (n1 * 2^23 + n0) * a,   hi = (P + 2^22) >> 23,   lo = P - hi * 2^23
// Exact while amax * sum |n0| < 2^22 for each column: checked when the weights are packed.
//
// This is the functional contract. The free-running systolic form with register hand-over is the array's RTL.
#pragma once
#include "commands.hpp"
#include "trip.hpp"

namespace zq {

using operand_t = sint<kOperandBits>;
using activation_t = sint<kActivationBits>;
using product_sum_t = sint<kAccumulatorBits>;

struct array_state {
  product_sum_t p[kLanes][kPairs];
};

inline operand_t pack_operand(const byte_t& b, bool w8) {
#pragma HLS INLINE
  const sint<6> low = sint<6>(b & byte_t(15));
  const sint<6> high = sint<6>(b >> 4);
  const sint<5> n1 = sint<5>(high - (high > 7 ? sint<6>(16) : sint<6>(0)));
  const sint<6> n0 = sint<6>(low - (!w8 && low > 7 ? sint<6>(16) : sint<6>(0)));
  return operand_t((operand_t(n1) << kFieldShift) + n0);
}

inline activation_t read_operand(const byte_t& b, bool is_unsigned, bool zero) {
#pragma HLS INLINE
  if (zero) return activation_t(0);
  return is_unsigned ? activation_t(b) : activation_t(as_signed(b));
}

inline void array_mac(const array_command& c, const activation_word* activations,
                      const weight_word weights[kWeightWords], const activation_word key_value[][kKeyValueWords],
                      array_state& state) {
  const bool w8 = c.w8 == 1;
  const bool from_memory = c.keys_values == 1;
  const bool is_unsigned = c.unsigned_operand == 1;
  const bool zero = c.zero == 1;
  const int k_count = c.k.to_int();
  const int base = c.operand.to_int();
  const int pair_base = c.key_value.to_int();
  const int first = c.weights.to_int();
array_clear:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
  array_clear_columns:
    for (int j = 0; j < kPairs; ++j) {
#pragma HLS UNROLL
      state.p[t][j] = product_sum_t(0);
    }
  }
array_mac:
  for (int k = 0; k < k_count; ++k) {
#pragma HLS PIPELINE II = 1
    trip(loop::array_mac);
    operand_t w[kPairs];
    activation_t a[kLanes];
  array_operands:
    for (int j = 0; j < kPairs; ++j) {
#pragma HLS UNROLL
      w[j] = pack_operand(from_memory ? key_value[j / kLanes][pair_base + k][j % kLanes] : weights[first + k][j], w8);
    }
  array_activations:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      a[t] = read_operand(activations[base + k][t], is_unsigned, zero);
    }
  array_rows:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    array_columns:
      for (int j = 0; j < kPairs; ++j) {
#pragma HLS UNROLL
        state.p[t][j] += w[j] * a[t];
      }
    }
  }
}

inline void array_drain(const array_command& c, const array_state& state, hls::stream<acc_word>& accumulators) {
  const bool w8 = c.w8 == 1;
  const int words = c.words.to_int();
array_drain:
  for (int n = 0; n < words; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::array_drain);
    acc_word out;
  array_drain_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const product_sum_t p = state.p[t][w8 ? n : n / 2];
      const sint<26> hi = sint<26>((p + product_sum_t(1 << (kFieldShift - 1))) >> kFieldShift);
      const sint<kFieldShift + 1> lo = sint<kFieldShift + 1>(p - (product_sum_t(hi) << kFieldShift));
      if (w8)
        out[t] = acc_t((sint<31>(hi) << 4) + lo);
      else
        out[t] = n % 2 == 0 ? acc_t(lo) : acc_t(hi);
    }
    accumulators.write(out);
  }
}

inline void array_unit(hls::stream<array_command>& commands, hls::stream<token>& weights_ready,
                       hls::stream<token>& weights_free, hls::stream<token>& data_ready,
                       hls::stream<acc_word>& accumulators, const activation_word activations[kActivationWords],
                       const weight_word weights[kWeightWords],
                       const activation_word key_value[kGroups][kKeyValueWords], array_state& state) {
  const array_command c = commands.read();
  if (c.pop_weights_ready == 1) weights_ready.read();
array_pop_data:
  for (int i = 0; i < c.pop_data.to_int(); ++i) data_ready.read();
  array_mac(c, activations, weights, key_value, state);
  if (c.push_weights_free == 1) weights_free.write(token(1));
  array_drain(c, state, accumulators);
}

}  // namespace zq
