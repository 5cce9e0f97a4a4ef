// SPDX-License-Identifier: Apache-2.0
// (Q6) x[c] = clamp16(x[c] + rs(q[c] * m, s)), one table row a lane, m and s of the row; the first table replaces x.
// 4-bit rows: q = 16 * nibble.
// The sums for the layer norm (Q7) form beside it.
#pragma once
#include "round.hpp"
#include "trip.hpp"
#include "vector_state.hpp"

namespace zq {

inline void add_to_sums(vector_state& state, int rb, int t, const half_t& x) {
#pragma HLS INLINE
  state.sum[rb][t] += x;
  state.square_sum[rb][t] += uint<31>(x * x);
}

inline void clear_sums(vector_state& state, int rb) {
#pragma HLS INLINE
clear_sums:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    state.sum[rb][t] = sum_t(0);
    state.square_sum[rb][t] = square_sum_t(0);
  }
}

inline void vector_embed(const vector_command& c, const embedding_word embedding[kSlots][kLanes][kEmbeddingWords],
                         vector_state& state, hls::stream<half_word>& stored) {
  const int rb = c.row_block.to_int();
  const int width = c.words.to_int();
  const bool first = c.first_tile == 1;
  const int slot = c.slot.to_int();
  const bool four_bit = c.four_bit == 1;
  const int scale_word = four_bit ? width / 32 : (width + 15) / 16;
  lanes<uint<8>, kLanes> m;
  lanes<uint<5>, kLanes> s;
embed_scales:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    m[t] = embedding[slot][t][scale_word][0];
    s[t] = uint<5>(embedding[slot][t][scale_word][1]);
  }
  clear_sums(state, rb);
vector_embed:
  for (int n = 0; n < width; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_embed);
    half_word x = state.residual[rb][n];
  vector_embed_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const int at = four_bit ? n / 2 : n;  // byte of the row
      const byte_t b = embedding[slot][t][at / 16][at % 16];
      const byte_t nibble = n % 2 == 0 ? byte_t((b & byte_t(15)) << 4) : byte_t(b & byte_t(240));
      const sint<8> q = as_signed(four_bit ? nibble : b);
      const sint<17> product = q * m[t];
#pragma HLS BIND_OP variable = product op = mul impl = fabric
      const sint<33> term = round_shift<17>(product, s[t].to_int());
      const sint<34> sum = first ? sint<34>(term) : sint<34>(term + x[t]);
      x[t] = clamp_half<34>(sum);
      add_to_sums(state, rb, t, x[t]);
    }
    state.residual[rb][n] = x;
    if (c.tee == 1) stored.write(x);
  }
}

}  // namespace zq
