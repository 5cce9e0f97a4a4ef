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

template <int W>
sint<W> requantize(const acc_t& acc, const sint<kAccBits>& bias, const uint<8>& m, int s, int lo, int hi) {
#pragma HLS INLINE
  const sint<kAccBits> biased = acc + bias;
  const sint<kAccBits + 9> product = biased * m;
  return clamp<W>(round_shift<kAccBits + 9>(product, s), lo, hi);
}

}  // namespace zq
