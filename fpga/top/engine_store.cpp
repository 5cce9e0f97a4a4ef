// SPDX-License-Identifier: Apache-2.0
// Store as an IP of its own: free-running, one command a pass.
#include "store.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_store(hls::stream<store_command>& commands, hls::stream<half_word>& words, hls::stream<token>& done,
                  beat* hp0) {
#pragma HLS INTERFACE mode = ap_ctrl_none port = return
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = words
#pragma HLS INTERFACE mode = axis port = done
#pragma HLS INTERFACE mode = m_axi port = hp0 bundle = hp0 offset = off max_write_burst_length = 64
#pragma HLS AGGREGATE variable = words compact = bit
  store_unit(commands, words, done, hp0);
}
