// SPDX-License-Identifier: Apache-2.0
// Load as an IP of its own: free-running, one command a pass. On a board with fewer weight ports the last stay unused.
// The block protocol is no pragma: the configuration file of synthesis makes it ap_ctrl_none, which co-simulation
// cannot drive, and co-simulation runs with the tool's own, ap_ctrl_hs.
#include "../testbench/size.hpp"
#include "load.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_load(hls::stream<load_command>& commands, beat* hp0, beat* hp1, beat* hp2, beat* hp3, beat* hp4, beat* hp5,
                 hls::stream<token>& weights_free, hls::stream<token>& weights_ready,
                 hls::stream<token>& parameters_free, hls::stream<token>& parameters_ready,
                 weight_word weights[kSlots][kMaxEntries], zq::uint<64> parameters[kSlots][kParameterWords],
                 embedding_word embedding[kSlots][kLanes][kEmbeddingWords]) {
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = weights_free
#pragma HLS INTERFACE mode = axis port = weights_ready
#pragma HLS INTERFACE mode = axis port = parameters_free
#pragma HLS INTERFACE mode = axis port = parameters_ready
#pragma HLS INTERFACE mode = m_axi port = hp0 bundle = hp0 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp1 bundle = hp1 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp2 bundle = hp2 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp3 bundle = hp3 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp4 bundle = hp4 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp5 bundle = hp5 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = ap_memory port = weights storage_type = ram_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = parameters storage_type = ram_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = embedding storage_type = ram_1p latency = 2
#pragma HLS AGGREGATE variable = weights compact = bit
#pragma HLS AGGREGATE variable = embedding compact = bit
// A beat holds two parameter words, and expands to two words of 4-bit embeddings: two banks keep II = 1.
#pragma HLS ARRAY_PARTITION variable = parameters type = cyclic factor = 2 dim = 2
#pragma HLS ARRAY_PARTITION variable = embedding type = complete dim = 2
#pragma HLS ARRAY_PARTITION variable = embedding type = cyclic factor = 2 dim = 3
  static load_state state;
  load_unit(commands, hp0, hp1, hp2, hp3, hp4, hp5, weights_free, weights_ready, parameters_free, parameters_ready,
            weights, parameters, embedding, state);
}
