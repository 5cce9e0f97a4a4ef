// SPDX-License-Identifier: Apache-2.0
// Store as an IP of its own: free-running, one command a pass.
// The block protocol is no pragma: the configuration file of synthesis makes it ap_ctrl_none, which co-simulation
// cannot drive, and co-simulation runs with the tool's own, ap_ctrl_hs.
#include "../testbench/size.hpp"
#include "store.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_store(hls::stream<store_command>& commands, hls::stream<half_word>& words, hls::stream<token>& done,
                  beat* hp0) {
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = words
#pragma HLS INTERFACE mode = axis port = done
#pragma HLS INTERFACE mode = m_axi port = hp0 bundle = hp0 offset = off depth = kTestbenchBeats max_write_burst_length = 64 num_write_outstanding = 2
  store_unit(commands, words, done, hp0);
}
