// SPDX-License-Identifier: Apache-2.0
// Softmax of one head and row block, keys as words, rows as lanes.
// (Q14) x = rq16(acc; 0, m, s) in steps of ln(510)/255
// (Q15) e = exp_table[min(255, max - x)] for keys in [begin, end) of the row, else 0
// (Q23) and nearer to the row than the head's span. The keys of a command begin with those of row block `key_block`.
// (Q16) 1/sum: p = floor(log2 sum), r = min(65535, (floor(2^(p+17)/sum) + 1) >> 1); sum = 0 gives r = p = 0
// (Q18) normalized form: e = rs(e * r * 255, p + 16), then r = 32897, p = 7 for the drain
// (Q17) context: u = rs(acc * r, p + 8), rq8(u; 0, m, s)
#pragma once
#include "linear.hpp"

namespace zq {

constexpr int kNormalizedReciprocal = 32897;  // 256/255 with 15 fraction bits
constexpr int kNormalizedExponent = 7;

inline bool sees(const vector_state& state, int row, int key, int span) {
#pragma HLS INLINE
  return state.key_begin[row] <= key && state.key_end[row] > key && row - key < span && key - row < span;
}

inline void vector_softmax(const vector_command& c, hls::stream<acc_word>& accumulators,
                           vector_state& state, activation_word activations[kActivationWords],
                           hls::stream<half_word>& stored) {
  const int keys = c.words.to_int();
  const int row = c.row_block.to_int() * kLanes;
  const int item = c.item_slot.to_int();
  const int base = c.address.to_int();
  const bool normalized = c.normalized == 1;
  const int first = c.key_block.to_int() * kLanes;
  const int span = c.span.to_int();
  const scale_factor score = decode_factor(state.head_factor[c.channel.to_int()]);
  lanes<half_t, kLanes> maximum;
  lanes<uint<15>, kLanes> sum;
softmax_clear:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    maximum[t] = half_t(-32768);
    sum[t] = uint<15>(0);
  }
vector_scores:
  for (int j = 0; j < keys; ++j) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_scores);
    const acc_word acc = accumulators.read();
    const half_word x = requantize_word(acc, sint<kAccBits>(0), score.m, score.s);
  vector_scores_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      if (sees(state, row + t, first + j, span) && x[t] > maximum[t]) maximum[t] = x[t];
    }
    state.score[j] = x;
  }
vector_softmax:
  for (int j = 0; j < keys; ++j) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_softmax);
    activation_word e;
    half_word value;
  vector_softmax_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const bool seen = sees(state, row + t, first + j, span);
      const sint<17> distance = maximum[t] - state.score[j][t];
      const int d = clamp<9>(distance, 0, kScoreStepTop).to_int();
      e[t] = seen ? state.table[kTableExp][t / 2][d] : byte_t(0);
      value[t] = half_t(e[t]);
      sum[t] += e[t];
    }
    if (normalized)
      state.score[j] = value;
    else {
      activations[base + j] = e;
      if (c.tee == 1) stored.write(value);
    }
  }
vector_reciprocal:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_reciprocal);
    int p = 0;
  reciprocal_log2:
    for (int b = 1; b < 15; ++b) {
#pragma HLS UNROLL
      if (sum[t] >= (1 << b)) p = b;
    }
    const uint<32> one = uint<32>(1) << (p + 17);
    const uint<32> quotient = sum[t] == 0 ? uint<32>(0) : uint<32>(one / uint<32>(sum[t]));
    const uint<32> rounded = uint<32>(quotient + uint<1>(1)) >> 1;
    state.reciprocal[item][t] = sum[t] == 0 ? reciprocal_t(0) : (rounded > 65535 ? reciprocal_t(65535) : reciprocal_t(rounded));
    state.exponent[item][t] = uint<4>(p);
  }
  if (normalized) {
  vector_normalize:
    for (int j = 0; j < keys; ++j) {
#pragma HLS PIPELINE II = 1
      trip(loop::vector_normalize);
      activation_word e;
      half_word value;
    vector_normalize_lanes:
      for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
        const sint<9> numerator = sint<9>(state.score[j][t]);
        const sint<34> scaled = numerator * state.reciprocal[item][t] * sint<9>(255);
        e[t] = byte_t(round_shift<34>(scaled, state.exponent[item][t].to_int() + 16));
        value[t] = half_t(e[t]);
      }
      activations[base + j] = e;
      if (c.tee == 1) stored.write(value);
    }
  normalize_reciprocal:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      if (sum[t] != 0) {
        state.reciprocal[item][t] = reciprocal_t(kNormalizedReciprocal);
        state.exponent[item][t] = uint<4>(kNormalizedExponent);
      }
    }
  }
}

inline void vector_context(const vector_command& c, hls::stream<acc_word>& accumulators,
                           vector_state& state, activation_word activations[kActivationWords],
                           hls::stream<half_word>& stored) {
  const int words = c.words.to_int();
  const int item = c.item_slot.to_int();
  const int base = c.address.to_int();
vector_context:
  for (int n = 0; n < words; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_context);
    const acc_word acc = accumulators.read();
    const scale_factor p = decode_factor(state.head_factor[c.channel.to_int() + 1 + n]);
    acc_word u;
  context_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const sint<44> product = acc[t] * state.reciprocal[item][t];
      u[t] = acc_t(round_shift<44>(product, state.exponent[item][t].to_int() + 8));
    }
    const half_word scaled = requantize_word(u, sint<kAccBits>(0), p.m, p.s);
    activation_word out;
    half_word value;
  vector_context_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const sint<9> y = clamp<9>(scaled[t], -127, 127);
      out[t] = to_byte(y);
      value[t] = half_t(out[t]);
    }
    activations[base + n] = out;
    if (c.tee == 1) stored.write(value);
  }
}

}  // namespace zq
