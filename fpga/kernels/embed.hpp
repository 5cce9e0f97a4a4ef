// SPDX-License-Identifier: Apache-2.0
// (Q6) x[c] = clamp16(x[c] + rs(q[c] * m, s)), one table row a lane, m and s of the row; the first table replaces x.
// 4-bit rows: q = 16 * nibble. Adaptive rows: q by Q24, behind a mask of the channels that are not 0.
// The sums for the layer norm (Q7) form beside it.
#pragma once
#include "round.hpp"
#include "trip.hpp"
#include "vector_state.hpp"

namespace zq {

using table_value = sint<13>;  // int8, 16 * nibble, or Q24: at most 3968
using row_byte = uint<11>;     // of a row in the embedding buffer
static_assert(16 * kEmbeddingWords < 2048, "a byte's number, and that behind the last, in 11 bits");

// (Q24) +-(16 + mantissa) * 2^exponent; of code 0, and 128, 0.
inline table_value decode_adaptive(const byte_t& code) {
#pragma HLS INLINE
  const byte_t absolute = code & byte_t(127);
  const uint<12> significand = uint<12>(byte_t(absolute & byte_t(15)) + byte_t(16));
  const uint<12> size = absolute == 0 ? uint<12>(0) : uint<12>(significand << (absolute >> 4).to_int());
  return code > 127 ? table_value(table_value(0) - size) : table_value(size);
}

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

// A row's last word has its factor. The codes of an adaptive row are as many as the bits of its mask, which stays within
// registers for its 128 channels: a lane then reads one word of the buffer a channel, where its own codes have got to.
// Codes that the mask asks for beyond the row are 0.
inline void vector_embed(const vector_command& c, const embedding_word embedding[kSlots][kLanes][kEmbeddingWords],
                         vector_state& state, hls::stream<half_word>& stored) {
  const int rb = c.row_block.to_int();
  const int width = c.words.to_int();
  const bool first = c.first_tile == 1;
  const int slot = c.slot.to_int();
  const bool four_bit = c.four_bit == 1;
  const bool adaptive = c.adaptive == 1;
  const int scale_word = c.width.to_int() - 1;
  const row_byte codes_end = row_byte(16 * scale_word);
  lanes<uint<8>, kLanes> m;
  lanes<uint<5>, kLanes> s;
  lanes<row_byte, kLanes> next;  // code of an adaptive row
embed_scales:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    m[t] = embedding[slot][t][scale_word][0];
    s[t] = uint<5>(embedding[slot][t][scale_word][1]);
    next[t] = row_byte(16 * ((width + kMaskChannels - 1) / kMaskChannels));
  }
  clear_sums(state, rb);
  const int chunk = adaptive ? kMaskChannels : width;
embed_chunks:
  for (int begin = 0; begin < width; begin += chunk) {
    const int end = width - begin < chunk ? width : begin + chunk;
    byte_t mask[kLanes][kMaskChannels / 8];
#pragma HLS ARRAY_PARTITION variable = mask type = complete dim = 0
  embed_masks:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const embedding_word word = embedding[slot][t][begin / kMaskChannels];
    embed_mask_bytes:
      for (int j = 0; j < kMaskChannels / 8; ++j) {
#pragma HLS UNROLL
        mask[t][j] = word[j];
      }
    }
  vector_embed:
    for (int n = begin; n < end; ++n) {
#pragma HLS PIPELINE II = 1
      trip(loop::vector_embed);
      half_word x = state.residual[rb][n];
    vector_embed_lanes:
      for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
        const bool bit = ((mask[t][n % kMaskChannels / 8] >> (n % 8)) & byte_t(1)) == 1;
        const bool stored_code = adaptive && bit && next[t] < codes_end;
        const int at = adaptive ? next[t].to_int() : (four_bit ? n / 2 : n);  // byte of the row
        const byte_t b = embedding[slot][t][at / 16][at % 16];
        const byte_t nibble = n % 2 == 0 ? byte_t((b & byte_t(15)) << 4) : byte_t(b & byte_t(240));
        const table_value code = stored_code ? decode_adaptive(b) : table_value(0);
        const table_value q = adaptive ? code : table_value(as_signed(four_bit ? nibble : b));
        if (stored_code) next[t] = row_byte(next[t] + uint<1>(1));
        const sint<22> product = q * m[t];
#pragma HLS BIND_OP variable = product op = mul impl = fabric
        const sint<33> term = round_shift<22>(product, s[t].to_int());
        const sint<34> sum = first ? sint<34>(term) : sint<34>(term + x[t]);
        x[t] = clamp_half<34>(sum);
        add_to_sums(state, rb, t, x[t]);
      }
      state.residual[rb][n] = x;
      if (c.tee == 1) stored.write(x);
    }
  }
}

}  // namespace zq
