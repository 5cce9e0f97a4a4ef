// SPDX-License-Identifier: Apache-2.0
// The layer foretold by a network instead of the exit table (zynqbert build --predictor): 1 + the index of its largest
// result, of equal ones the first. It takes the entropy's 15 bits as the raw bits of its input, of 16 with a sign that
// is never set. One network serves the lanes one after another: as many cycles as it takes, for each, once a pass.
//
// <exit_predictor.h> is the project's: input_t, result_t and
// void exit_predictor(input_t in[1], result_t out[ZQ_EXIT_PREDICTOR]).
#pragma once
#include <exit_predictor.h>

#include "exit.hpp"

namespace zq {

constexpr int kForetoldLayers = ZQ_EXIT_PREDICTOR;
static_assert(kForetoldLayers >= 1 && kForetoldLayers <= 63, "layers that a vector command can name");
static_assert(input_t::width == 16, "the raw bits of the input are the entropy, with a sign");

struct exit_network {
  uint<8> told[kLanes];

  void foretell(const vector_command& c, const exit_state& e) {
    if (c.predict == 0) return;
  exit_foretell:
    for (int t = 0; t < kLanes; ++t) {
      input_t input[1];
      result_t results[kForetoldLayers];
      input[0].range(15, 0) = ap_uint<16>(entropy_of(e, t).to_uint64());
      exit_predictor(input, results);
      int best = 0;
    exit_largest:
      for (int n = 1; n < kForetoldLayers; ++n) {
#pragma HLS UNROLL
        if (results[n] > results[best]) best = n;
      }
      told[t] = uint<8>(best + 1);
    }
  }

  uint<8> layer(const vector_command&, const exit_state&, const uint<15>&, int t) const {
#pragma HLS INLINE
    return told[t];
  }
};

}  // namespace zq
