// SPDX-License-Identifier: Apache-2.0
// Stand-ins for ap_int and ap_uint on the machine's own integers. Widths grow in the types as in ap_int: a product
// of W1 and W2 bits has W1 + W2, a sum one more than the wider. Shifts keep the type. Only what the kernels use is here.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "zq_policy.hpp"

namespace zq {

struct width_fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <int W, bool S>
struct storage_of {
  using s = std::conditional_t<(W <= 8), int8_t,
            std::conditional_t<(W <= 16), int16_t,
            std::conditional_t<(W <= 32), int32_t, std::conditional_t<(W <= 64), int64_t, __int128>>>>;
  using u = std::conditional_t<(W <= 8), uint8_t,
            std::conditional_t<(W <= 16), uint16_t,
            std::conditional_t<(W <= 32), uint32_t, std::conditional_t<(W <= 64), uint64_t, unsigned __int128>>>>;
  using type = std::conditional_t<S, s, u>;
};

// Signed machine type in which every value of W bits (of either sign) and its sums can be computed.
template <int W>
using calc = std::conditional_t<(W <= 31), int32_t, std::conditional_t<(W <= 63), int64_t, __int128>>;

template <int W, bool S>
struct fixed {
  static_assert(W >= 1 && W <= 126, "width");
  using raw = typename storage_of<W, S>::type;
  raw v;

  fixed() = default;
  template <int W2, bool S2>
  fixed(const fixed<W2, S2>& o) : v(narrow(o.v)) {}
  template <class I, std::enable_if_t<std::is_integral<I>::value, int> = 0>
  fixed(I x) : v(narrow(x)) {}

  template <class I>
  static raw narrow(I x) {
    if constexpr (kCheckWidths) {
      constexpr int bits = S ? W - 1 : W;
      const __int128 wide = static_cast<__int128>(x);
      if ((wide >> bits) != 0 && !(S && (wide >> bits) == -1))
        throw width_fault("value " + std::to_string(static_cast<long long>(x)) + " leaves its declared width of " +
                          std::to_string(W) + (S ? " signed bits" : " unsigned bits"));
    }
    return static_cast<raw>(x);
  }

  int to_int() const { return static_cast<int>(v); }
  int64_t to_int64() const { return static_cast<int64_t>(v); }
  uint64_t to_uint64() const { return static_cast<uint64_t>(v); }

  template <int W2, bool S2>
  fixed& operator+=(const fixed<W2, S2>& o) {
    if constexpr (kCheckWidths)
      v = narrow(static_cast<calc<W + 1>>(v) + o.v);
    else
      v = static_cast<raw>(v + o.v);
    return *this;
  }
  fixed operator>>(int s) const { fixed r; r.v = static_cast<raw>(v >> s); return r; }
  fixed operator<<(int s) const {
    fixed r;
    r.v = narrow(static_cast<calc<W>>(v) * (static_cast<calc<W>>(1) << s));
    return r;
  }
};

template <int W>
using sint = fixed<W, true>;
template <int W>
using uint = fixed<W, false>;

constexpr int max_of(int a, int b) { return a > b ? a : b; }
constexpr int grown(int w, bool s, bool other) { return w + ((!s && other) ? 1 : 0); }

template <int W1, bool S1, int W2, bool S2>
auto operator*(const fixed<W1, S1>& a, const fixed<W2, S2>& b) {
  fixed<W1 + W2, S1 || S2> r;
  using c = calc<W1 + W2>;
  r.v = static_cast<decltype(r.v)>(static_cast<c>(a.v) * static_cast<c>(b.v));
  return r;
}
template <int W1, bool S1, int W2, bool S2>
auto operator+(const fixed<W1, S1>& a, const fixed<W2, S2>& b) {
  constexpr int w = max_of(grown(W1, S1, S2), grown(W2, S2, S1)) + 1;
  fixed<w, S1 || S2> r;
  r.v = static_cast<decltype(r.v)>(static_cast<calc<w>>(a.v) + static_cast<calc<w>>(b.v));
  return r;
}
template <int W1, bool S1, int W2, bool S2>
auto operator-(const fixed<W1, S1>& a, const fixed<W2, S2>& b) {
  constexpr int w = max_of(grown(W1, S1, S2), grown(W2, S2, S1)) + 1;
  fixed<w, true> r;
  r.v = static_cast<decltype(r.v)>(static_cast<calc<w>>(a.v) - static_cast<calc<w>>(b.v));
  return r;
}
template <int W1, int W2>
auto operator/(const fixed<W1, false>& a, const fixed<W2, false>& b) {
  fixed<W1, false> r;
  r.v = static_cast<decltype(r.v)>(a.v / b.v);
  return r;
}
template <int W, bool S>
fixed<W, S> operator&(const fixed<W, S>& a, const fixed<W, S>& b) {
  fixed<W, S> r;
  r.v = static_cast<decltype(r.v)>(a.v & b.v);
  return r;
}
#define ZQ_COMPARE(op)                                                              \
  template <int W1, bool S1, int W2, bool S2>                                       \
  bool operator op(const fixed<W1, S1>& a, const fixed<W2, S2>& b) {                \
    using c = calc<max_of(W1, W2) + 1>;                                             \
    return static_cast<c>(a.v) op static_cast<c>(b.v);                              \
  }                                                                                 \
  template <int W1, bool S1>                                                        \
  bool operator op(const fixed<W1, S1>& a, int b) {                                 \
    using c = calc<max_of(W1, 32) + 1>;                                             \
    return static_cast<c>(a.v) op static_cast<c>(b);                                \
  }
ZQ_COMPARE(<)
ZQ_COMPARE(>)
ZQ_COMPARE(<=)
ZQ_COMPARE(>=)
ZQ_COMPARE(==)
ZQ_COMPARE(!=)
#undef ZQ_COMPARE

}  // namespace zq
