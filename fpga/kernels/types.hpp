// SPDX-License-Identifier: Apache-2.0
// The engine's data types; sint<W> and uint<W> come from the build (types/).
#pragma once
#include "config.hpp"
#include "zq_int.hpp"

namespace zq {

template <class T, int N>
struct lanes {
  T v[N];
  T& operator[](int i) { return v[i]; }
  const T& operator[](int i) const { return v[i]; }
};

using byte_t = uint<8>;
using acc_t = sint<kAccBits>;
using half_t = sint<16>;

using activation_word = lanes<byte_t, kLanes>;
using weight_word = lanes<byte_t, kPairs + kChoiceBytes>;  // a pair's weights a byte, then choices
using acc_word = lanes<acc_t, kLanes>;
using half_word = lanes<half_t, kLanes>;

// 128 bits of the memory bus. Two 64-bit halves, since wider slices are slow in simulation.
struct beat {
  uint<64> half[2];
};

inline byte_t byte_of(const beat& b, int i) {
#pragma HLS INLINE
  return byte_t((b.half[i / 8] >> (8 * (i % 8))) & uint<64>(255));
}

// Two's complement reading of a byte and of nibbles.
inline sint<8> as_signed(const byte_t& b) {
#pragma HLS INLINE
  return b > 127 ? sint<8>(sint<10>(b) - sint<10>(256)) : sint<8>(b);
}

}  // namespace zq
