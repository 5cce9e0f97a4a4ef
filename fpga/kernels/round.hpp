// SPDX-License-Identifier: Apache-2.0
// (Q1) rs(x, s) = (x + 2^(s-1)) >> s, ties upward, 1 <= s <= 31.
// (Q2) rq(acc; b, m, s) = clamp(rs((acc + b) * m, s), lo, hi); acc + b in 27 signed bits, m in 0 or 128..255.
#pragma once
#include "types.hpp"

namespace zq {

constexpr int wider(int a, int b) { return a > b ? a : b; }

template <int W>
sint<wider(W, 32) + 1> round_shift(const sint<W>& x, int s) {
#pragma HLS INLINE
  using wide = sint<wider(W, 32) + 1>;
  const wide half = wide(1) << (s - 1);
  return wide(wide(x) + half) >> s;
}

// W: bits of the result, which must hold lo and hi.
template <int W, int WX>
sint<W> clamp(const sint<WX>& x, int lo, int hi) {
#pragma HLS INLINE
  if (x < lo) return sint<W>(lo);
  if (x > hi) return sint<W>(hi);
  return sint<W>(x);
}

// (Q2) on 32 rows of one channel, to int16; narrower ranges clamp further. Every loop of the vector unit takes its words
// through the one instance that vector_unit allows: a requantizer of 32 lanes is the unit's largest part.
inline half_word requantize_word(const acc_word& acc, const sint<kAccBits>& bias, const uint<8>& m, int s) {
#pragma HLS INLINE off
#pragma HLS PIPELINE II = 1
  half_word out;
requantize_lanes:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    const sint<kAccBits> biased = acc[t] + bias;
    // The widest of the products with a mantissa: it would take 200 LUTs a lane.
    const sint<kAccBits + 9> product = biased * m;
#pragma HLS BIND_OP variable = product op = mul impl = dsp
    out[t] = clamp<16>(round_shift<kAccBits + 9>(product, s), -32767, 32767);
  }
  return out;
}

}  // namespace zq
