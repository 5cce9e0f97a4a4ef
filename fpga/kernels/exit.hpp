// SPDX-License-Identifier: Apache-2.0
// Off-ramp: logits of the result block, the entropy of each lane's, and who leaves.
// (Q21) y = rs(x*m, s), w = y >> 10, f = y & 1023;  rise = min(40, max(0, w + 1 - P)), T = (T + (rise << 10)*S) >> rise,
//       S = S >> rise, P = max(P, w + 1);  t = (power_table[f] << 12) >> min(40, P - 1 - w), S = S + t,
//       T = T + min(2^16 - 1, (P << 10) - y)*t
//       p = floor(log2 S), L = ((p - 28) << 12) + log_table[(S >> (p - 10)) & 1023],
//       R = ((T >> (p - 16)) << 2) div (S >> (p - 16)), H = min(32767, rs(max(0, L + R)*45426, 16))
// (Q22) a sentence leaves if H < threshold, if the layer foretold is reached, or at the last ramp; where ramps are
//       counted, each lane's own: the layer is the number that it has passed, and `layer` of the command the last.
// The lanes take their turns, one a cycle: a lane's sums come back 32 cycles later, long after they are written.
// 27 <= p <= 38, since the largest logit's t is 2^27 or more; T/S < 2^14, since what lies far below P weighs little.
#pragma once
#include "exit_table.hpp"
#include "log_table.hpp"
#include "power_table.hpp"
#include "trip.hpp"
#include "vector_state.hpp"

namespace zq {

constexpr int kStepBits = 10;       // fraction bits of a power of two
constexpr int kMostRise = 40;       // beyond it nothing of a sum is left
constexpr int kSumBits = 39;        // S: labels times 2^28
constexpr int kNoTop = -(1 << 21);  // P of a lane without logits: below every w + 1
static_assert(kMaxLabels <= 1 << (kSumBits - 29), "the sum of 2^28 a label");

inline void clear_exit(exit_state& e, int t) {
#pragma HLS INLINE
  e.layer[t] = uint<6>(0);
  e.depth[t] = uint<6>(0);
  e.entropy[t] = uint<15>(0);
  e.foretold[t] = uint<8>(0);
  e.first_entropy[t] = uint<15>(0);
}

inline void clear_exits(exit_state& e) {
#pragma HLS INLINE
clear_exits:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    clear_exit(e, t);
  }
  e.output = sint<3>(-1);
}

// One more logit of lane t (Q21); `first` forgets those before.
inline void add_logit(const half_t& x, const uint<16>& m, int s, int t, bool first, exit_state& e) {
#pragma HLS INLINE
  const sint<32> product = x * m;
  const sint<32> y = sint<32>(round_shift<32>(product, s));
  const sint<22> whole = sint<22>(y >> kStepBits);
  const int part = (y & sint<32>(1023)).to_int();
  const sint<22> top = first ? sint<22>(kNoTop) : e.top[t];
  const uint<kSumBits> total = first ? uint<kSumBits>(0) : e.total[t];
  const uint<54> distances = first ? uint<54>(0) : e.distances[t];
  const sint<22> above = sint<22>(whole + sint<2>(1));
  const sint<23> climb = above - top;
  const int rise = clamp<7>(climb, 0, kMostRise).to_int();
  const uint<56> raised = distances + uint<16>(rise << kStepBits) * total;
  const sint<22> next = climb > 0 ? above : top;
  const sint<23> below = next - above;
  const uint<41> power = uint<41>(kPowerTable[part]) << 12;
  const uint<28> term = uint<28>(power >> clamp<7>(below, 0, kMostRise).to_int());
  const sint<33> far = sint<33>(sint<32>(next) << kStepBits) - y;
  const uint<16> distance = uint<16>(clamp<17>(far, 0, 65535));
  e.top[t] = next;
  e.total[t] = uint<kSumBits>((total >> rise) + term);
  e.distances[t] = uint<54>(uint<54>(raised >> rise) + distance * term);
}

// (Q21) H of lane t, once all its logits are in.
inline uint<15> entropy_of(const exit_state& e, int t) {
#pragma HLS INLINE
  const uint<kSumBits> total = e.total[t];
  int p = 27;
entropy_log2:
  for (int b = 28; b < kSumBits; ++b) {
#pragma HLS UNROLL
    if (((total >> b) & uint<kSumBits>(1)) == 1) p = b;
  }
  const int place = ((total >> (p - 10)) & uint<kSumBits>(1023)).to_int();
  const sint<18> log = sint<18>((p - 28) * 4096) + sint<18>(kLogTable[place]);
  const uint<33> scaled = uint<33>(uint<33>(e.distances[t] >> (p - 16)) << 2);
  const uint<33> mean = scaled / uint<17>(total >> (p - 16));
  const sint<35> sum = log + mean;
  const sint<19> nats = clamp<19>(sum, 0, 262143);
  const sint<36> product = nats * uint<16>(45426);
  return uint<15>(clamp<17>(round_shift<36>(product, 16), 0, 32767));
}

// Row blocks that the keys of the sentence with [CLS] in `row` lie in, a bit each.
inline uint32_t blocks_of(const vector_state& state, int row) {
#pragma HLS INLINE
  uint32_t blocks = 0;
exit_blocks:
  for (int b = 0; b < kRowBlocks; ++b) {
#pragma HLS UNROLL
    if (state.key_begin[row] < (b + 1) * kLanes && state.key_end[row] > b * kLanes) blocks |= 1u << b;
  }
  return blocks;
}

inline half_word record_word(const exit_state& e, int word) {
#pragma HLS INLINE
  half_word out;
exit_record_lanes:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
    switch (word) {
      case 0: out[t] = half_t(e.layer[t]); break;
      case 1: out[t] = half_t(e.entropy[t]); break;
      case 2: out[t] = half_t(e.foretold[t]); break;
      case 3: out[t] = half_t(e.first_entropy[t]); break;
      default: out[t] = half_t(e.output); break;
    }
  }
  return out;
}

// (Q22) Entropies of all lanes, who leaves, and who is left. Predictor: exit_table or exit_network.
template <class Predictor>
exit_verdict decide_exits(const vector_command& c, vector_state& state) {
  exit_state& e = state.exits;
  uint32_t live = 0;
  int fastest = 3;
  Predictor predictor;
  predictor.foretell(c, e);
exit_entropy:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS PIPELINE II = 1
    trip(loop::exit_entropy);
    const uint<15> entropy = entropy_of(e, t);
    const int row = state.result_row[t].to_int();
    if (row < kRows && e.layer[t] == 0) {
      if (c.predict == 1) {
        e.foretold[t] = predictor.layer(c, e, entropy, t);
        e.first_entropy[t] = entropy;
      }
      const uint<6> depth = uint<6>(e.depth[t] + uint<1>(1));
      const uint<6> layer = c.counted == 1 ? depth : c.layer;
      const bool last = c.counted == 1 ? depth >= c.layer : c.last == 1;
      const bool foretold = e.foretold[t] > 0 && c.layer >= e.foretold[t];
      e.depth[t] = depth;
      if (entropy < c.threshold || foretold || last) {
        e.layer[t] = layer;
        e.entropy[t] = entropy;
      } else {
        const int output = e.outputs[e.foretold[t].to_int()].to_int() & 3;
        live |= blocks_of(state, row);
        if (output < fastest) fastest = output;
      }
    }
  }
  exit_verdict verdict;
  verdict.live = uint<4>(live);
  if (c.clock == 1 && live != 0) {
    verdict.choose = uint<1>(1);
    verdict.output = uint<2>(fastest);
    e.output = sint<3>(fastest);
  }
  return verdict;
}

template <class Predictor>
void vector_to_exit(const vector_command& c, hls::stream<acc_word>& accumulators,
                           const uint<64> parameters[kSlots][kParameterWords], vector_state& state,
                           hls::stream<half_word>& stored, hls::stream<exit_verdict>& verdicts) {
  const int slot = c.slot.to_int();
  const int trips = c.words.to_int() * kLanes;
  half_word x;
exit_logits:
  for (int i = 0; i < trips; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = state.exits.top type = inter direction = RAW distance = 32 true
#pragma HLS DEPENDENCE variable = state.exits.total type = inter direction = RAW distance = 32 true
#pragma HLS DEPENDENCE variable = state.exits.distances type = inter direction = RAW distance = 32 true
    trip(loop::exit_logits);
    const int t = i % kLanes;
    if (t == 0) {
      const linear_parameters p = decode_linear(parameters[slot][i / kLanes]);
      x = requantize_word(accumulators.read(), p.bias, p.m, p.s);
      stored.write(x);
    }
    add_logit(x[t], c.entropy_m, c.s.to_int(), t, c.first_tile == 1 && i < kLanes, state.exits);
  }
  if (c.last_tile == 1) {
    verdicts.write(decide_exits<Predictor>(c, state));
  exit_record:
    for (int n = 0; n < kRecordWords; ++n) {
#pragma HLS PIPELINE II = 1
      trip(loop::exit_record);
      stored.write(record_word(state.exits, n));
    }
  }
}

}  // namespace zq
