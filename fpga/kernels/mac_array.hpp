// SPDX-License-Identifier: Apache-2.0
// MAC array: T token rows by C/2 multipliers, output stationary, one tile a command (Q3, Q4, Q5).
//
// w4: columns 2j and 2j + 1 share a multiplier, n0 and n1 signed nibbles, acc[2j] = lo, acc[2j + 1] = hi.
// w8: column j, n1 the signed high and n0 the unsigned low nibble of one byte, acc = 16 * hi + lo.
// A step takes one activation word, or, where a tile's blocks have a density bound, one word of a block of kBlock for
// each group of kChoicePairs pairs, which the weight word names; a block then has `bound` steps.
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

inline operand_t pack_operand(const byte_t& b, bool w8) {
#pragma HLS INLINE
  const sint<6> low = sint<6>(b & byte_t(15));
  const sint<5> n1 = sint<5>(as_signed(b) >> 4);
  const sint<6> n0 = sint<6>(low - (!w8 && low > 7 ? sint<6>(16) : sint<6>(0)));
  return operand_t((operand_t(n1) << kFieldShift) + n0);
}

inline activation_t read_operand(const byte_t& b, bool is_unsigned, bool zero) {
#pragma HLS INLINE
  if (zero) return activation_t(0);
  return is_unsigned ? activation_t(b) : activation_t(as_signed(b));
}

// How a tile's bytes are read.
struct operand_mode {
  bool w8;
  bool is_unsigned;
  bool zero;
  bool from_memory;  // second operand from the key/value memory
  bool chosen;       // each group of pairs takes one of the kBlock activation words
};

// Which word of the block the pairs of group g take.
inline int choice_of(const weight_word& weights, const operand_mode& mode, int g) {
#pragma HLS INLINE
  const int shift = 2 * (g % 4);
  return mode.chosen && !mode.from_memory ? ((weights[kPairs + g / 4] >> shift) & byte_t(3)).to_int() : 0;
}

// Where a step's second operand stands: a word of the weight buffer, or one of each key/value group.
inline byte_t operand_byte(const weight_word& weights, const activation_word key_value[][kKeyValueWords], int at,
                           const operand_mode& mode, int j) {
#pragma HLS INLINE
  return mode.from_memory ? key_value[j / kLanes][at][j % kLanes] : weights[j];
}

inline void read_operands(const activation_word& word, const operand_mode& mode, activation_t* a) {
#pragma HLS INLINE
array_activations:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    a[t] = read_operand(word[t], mode.is_unsigned, mode.zero);
  }
}

// One step of a pair's cells, T rows. The order of the cells is free: each sums on its own.
template <int T, class Sum, class Operand, class Activation>
inline void mac_step(Sum (&p)[T], const Operand& w, const Activation* a) {
#pragma HLS INLINE
mac_rows:
  for (int t = 0; t < T; ++t) {
#pragma HLS UNROLL
    p[t] += w * a[t];
  }
}

// The cells and what they do with a tile. The array's functions take any type that does the same (sim/blocked_cells.hpp).
struct array_state {
  product_sum_t p[kPairs][kLanes];

  void clear() {
#pragma HLS INLINE
  clear_columns:
    for (int j = 0; j < kPairs; ++j) {
#pragma HLS UNROLL
    clear_rows:
      for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
        p[j][t] = product_sum_t(0);
      }
    }
  }
  // operand: an activation word, or the first of a block.
  void step(const weight_word& weights, const activation_word key_value[][kKeyValueWords], int at,
            const activation_word* activations, int operand, const operand_mode& mode) {
#pragma HLS INLINE
    operand_t w[kPairs];
    activation_t a[kBlock][kLanes];
  array_operands:
    for (int j = 0; j < kPairs; ++j) {
#pragma HLS UNROLL
      w[j] = pack_operand(operand_byte(weights, key_value, at, mode, j), mode.w8);
    }
  array_block:
    for (int i = 0; i < kBlock; ++i) {
#pragma HLS UNROLL
      if (i == 0 || mode.chosen) read_operands(activations[operand + i], mode, a[i]);
    }
  array_pairs:
    for (int j = 0; j < kPairs; ++j) {
#pragma HLS UNROLL
      mac_step(p[j], w[j], a[choice_of(weights, mode, j / kChoicePairs)]);
    }
  }
  void column(int j, product_sum_t out[kLanes]) const {
#pragma HLS INLINE
  column_rows:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      out[t] = p[j][t];
    }
  }
};

template <class Cells>
void array_mac(const array_command& c, const activation_word* activations,
               const weight_word weights[kWeightWords], const activation_word key_value[][kKeyValueWords],
               Cells& cells) {
  const int bound = c.bound.to_int();
  const operand_mode mode = {c.w8 == 1, c.unsigned_operand == 1, c.zero == 1, c.keys_values == 1, bound != 0};
  const int k_count = c.k.to_int();
  const int pair_base = c.key_value.to_int();
  const int first = c.weights.to_int();
  int operand = c.operand.to_int();
  int of_block = 0;
  cells.clear();
array_mac:
  for (int k = 0; k < k_count; ++k) {
#pragma HLS PIPELINE II = 1
    trip(loop::array_mac);
    cells.step(weights[first + k], key_value, pair_base + k, activations, operand, mode);
    const bool next = of_block + 1 >= bound;
    operand += next ? (mode.chosen ? kBlock : 1) : 0;
    of_block = next ? 0 : of_block + 1;
  }
}

template <class Cells>
void array_drain(const array_command& c, Cells& cells, hls::stream<acc_word>& accumulators) {
  const bool w8 = c.w8 == 1;
  const int words = c.words.to_int();
array_drain:
  for (int n = 0; n < words; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::array_drain);
    product_sum_t sums[kLanes];
    cells.column(w8 ? n : n / 2, sums);
    acc_word out;
  array_drain_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const product_sum_t p = sums[t];
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

template <class Cells>
void array_unit(hls::stream<array_command>& commands, hls::stream<token>& weights_ready,
                hls::stream<token>& weights_free, hls::stream<token>& data_ready, hls::stream<acc_word>& accumulators,
                const activation_word activations[kActivationWords], const weight_word weights[kWeightWords],
                const activation_word key_value[kGroups][kKeyValueWords], Cells& cells) {
  const array_command c = commands.read();
  if (c.pop_weights_ready == 1) weights_ready.read();
array_pop_data:
  for (int i = 0; i < c.pop_data.to_int(); ++i) data_ready.read();
  array_mac(c, activations, weights, key_value, cells);
  if (c.push_weights_free == 1) weights_free.write(token(1));
  array_drain(c, cells, accumulators);
}

}  // namespace zq
