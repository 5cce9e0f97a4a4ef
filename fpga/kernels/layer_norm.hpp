// SPDX-License-Identifier: Apache-2.0
// (Q7) D = N*x - S, V = N*Q - S^2, z = rs(D*r, 12 + h), y = clamp16(rs(z*gamma, sg) + beta * 2^tb). V = 0 means that
//      every D is 0, so z = 0 whatever r.
// (Q8) 1/sqrt(V) as 16-bit mantissa r and shift h: table of the interval's midpoint and one Newton step.
// (Q9) operand entries: q = rs(y*m, s); each entry takes clamp(q, -127, 127) and leaves the rest to the next.
// (Q20) plain: y = x, of the parameters only `continues` counts.
#pragma once
#include "root_table.hpp"
#include "vector_state.hpp"
#include "embed.hpp"

namespace zq {

using variance_t = uint<52>;

struct inverse_root {
  uint<16> r;
  sint<7> h;
};

inline inverse_root inverse_square_root(const variance_t& variance) {
#pragma HLS INLINE
  int top = 0;
root_log2:
  for (int b = 1; b < 52; ++b) {
#pragma HLS UNROLL
    if (((variance >> b) & variance_t(1)) == 1) top = b;
  }
  const int h = (top - 14) >> 1;
  const uint<16> v = uint<16>(h >= 0 ? variance_t(variance >> (2 * h)) : variance_t(variance << (-2 * h)));
  const uint<16> r0 = kRootTable[(v >> 9).to_int()];
  const uint<33> vr = v * r0 + uint<16>(32768);
  const uint<17> a = uint<17>(vr >> 16);
  const sint<35> d = sint<35>(3221225472LL) - a * r0;
  const sint<52> rd = r0 * d + sint<32>(1073741824);
  const sint<21> r = sint<21>(rd >> 31);
  inverse_root out;
  out.r = r > 65535 ? uint<16>(65535) : uint<16>(r);
  out.h = sint<7>(h);
  return out;
}

inline void vector_norm(const vector_command& c, const uint<64> parameters[kSlots][kParameterWords], vector_state& state,
                        activation_word activations[kActivationWords], hls::stream<half_word>& stored) {
  const int slot = c.slot.to_int();
  const int rb = c.row_block.to_int();
  const int entries = c.words.to_int();
  const int base = c.address.to_int();
  const uint<11> width = c.width;
  const bool plain = c.plain == 1;
  lanes<inverse_root, kLanes> root;
norm_statistics:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS PIPELINE II = 1
    trip(loop::norm_statistics);
    const sum_t sum = state.sum[rb][t];
    const sint<54> variance = width * state.square_sum[rb][t] - sum * sum;
    root[t] = inverse_square_root(variance_t(variance));
  }
  int channel = -1;
  half_word x;
  lanes<sint<25>, kLanes> rest;
norm_apply:
  for (int n = 0; n < entries; ++n) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = state.residual type = inter false
    trip(loop::norm_apply);
    const norm_parameters p = decode_norm(parameters[slot][n]);
    if (!p.continues) {
      ++channel;
      x = state.residual[rb][channel];
    }
    half_word y;
    activation_word out;
  norm_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      y[t] = x[t];
      if (!plain) {
        const sint<27> whole = width * x[t];
#pragma HLS BIND_OP variable = whole op = mul impl = dsp
        const sint<27> centred = whole - state.sum[rb][t];
        const sint<18> z = sint<18>(round_shift<44>(sint<44>(centred * root[t].r), 12 + root[t].h.to_int()));
        const sint<26> shaped = z * p.gamma;
#pragma HLS BIND_OP variable = shaped op = mul impl = fabric
        const sint<33> scaled = round_shift<26>(shaped, p.gamma_shift);
        y[t] = clamp_half<34>(sint<34>(scaled + (sint<17>(p.beta) << p.beta_shift)));
      }
      const sint<25> operand = y[t] * c.m;
#pragma HLS BIND_OP variable = operand op = mul impl = fabric
      if (!p.continues) rest[t] = sint<25>(round_shift<25>(operand, c.s.to_int()));
      const sint<9> entry = clamp<9>(rest[t], -127, 127);
      rest[t] = sint<25>(rest[t] - entry);
      out[t] = to_byte(entry);
    }
    activations[base + n] = out;
    if (!p.continues) {
      state.residual[rb][channel] = y;
      if (c.tee == 1) stored.write(y);
    }
  }
}

// (Q19) Rows of the [CLS] tokens become the lanes of the result block; absent lanes are 0.
inline void vector_gather(const vector_command& c, const uint<64> parameters[kSlots][kParameterWords],
                          const vector_state& state, activation_word activations[kActivationWords],
                          hls::stream<half_word>& stored) {
  const int slot = c.slot.to_int();
  const int entries = c.words.to_int();
  const int base = c.address.to_int();
  int channel = -1;
  lanes<sint<25>, kLanes> rest;
gather:
  for (int n = 0; n < entries; ++n) {
#pragma HLS PIPELINE II = 1
    trip(loop::gather);
    const bool continues = decode_norm(parameters[slot][n]).continues;
    if (!continues) ++channel;
    activation_word out;
    half_word value;
  gather_lanes:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      const int row = state.result_row[t].to_int();
      const bool present = row < kRows;
      const half_t y = present ? state.residual[(row / kLanes) % kRowBlocks][channel][row % kLanes] : half_t(0);
      const sint<25> operand = y * c.m;
#pragma HLS BIND_OP variable = operand op = mul impl = fabric
      if (!continues) rest[t] = sint<25>(round_shift<25>(operand, c.s.to_int()));
      const sint<9> entry = clamp<9>(rest[t], -127, 127);
      rest[t] = sint<25>(rest[t] - entry);
      out[t] = to_byte(entry);
      value[t] = half_t(out[t]);
    }
    activations[base + n] = out;
    if (c.tee == 1) stored.write(value);
  }
}

}  // namespace zq
