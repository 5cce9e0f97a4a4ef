// SPDX-License-Identifier: Apache-2.0
// Load as an IP of its own: free-running, one command a pass.
// The block protocol is no pragma: the configuration file of synthesis makes it ap_ctrl_none, which co-simulation
// cannot drive, and co-simulation runs with the tool's own, ap_ctrl_hs.
#include "../testbench/size.hpp"
#include "load.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_load(hls::stream<load_command>& commands, beat* hp0, hls::stream<token>& parameters_free,
                 hls::stream<token>& parameters_ready, zq::uint<64> parameters[kSlots][kParameterWords],
                 embedding_word embedding[kSlots][kLanes][kEmbeddingWords]) {
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = parameters_free
#pragma HLS INTERFACE mode = axis port = parameters_ready
#pragma HLS INTERFACE mode = m_axi port = hp0 bundle = hp0 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 4
#pragma HLS INTERFACE mode = ap_memory port = parameters storage_type = ram_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = embedding storage_type = ram_1p latency = 2
#pragma HLS AGGREGATE variable = embedding compact = bit
// A beat holds two parameter words: two banks keep II = 1.
#pragma HLS ARRAY_PARTITION variable = parameters type = cyclic factor = 2 dim = 2
#pragma HLS ARRAY_PARTITION variable = embedding type = complete dim = 2
  static load_state state;
  load_unit(commands, hp0, parameters_free, parameters_ready, parameters, embedding, state);
}
