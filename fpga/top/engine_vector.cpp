// SPDX-License-Identifier: Apache-2.0
// Vector unit as an IP of its own: free-running, one command a pass.
// The block protocol is no pragma: the configuration file of synthesis makes it ap_ctrl_none, which co-simulation
// cannot drive, and co-simulation runs with the tool's own, ap_ctrl_hs.
#include "vector_unit.hpp"
#ifdef ZQ_EXIT_PREDICTOR
#include "exit_network.hpp"
using predictor = zq::exit_network;
#else
using predictor = zq::exit_table;
#endif

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_vector(hls::stream<vector_command>& commands, hls::stream<token>& parameters_ready,
                   hls::stream<token>& parameters_free, hls::stream<token>& data_ready,
                   hls::stream<acc_word>& accumulators, hls::stream<half_word>& stored,
                   hls::stream<exit_verdict>& verdicts,
                   const zq::uint<64> parameters[kSlots][kParameterWords],
                   const embedding_word embedding[kSlots][kLanes][kEmbeddingWords],
                   activation_word activations[kActivationWords], activation_word key_value[kGroups][kKeyValueWords]) {
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = parameters_ready
#pragma HLS INTERFACE mode = axis port = parameters_free
#pragma HLS INTERFACE mode = axis port = data_ready
#pragma HLS INTERFACE mode = axis port = accumulators
#pragma HLS INTERFACE mode = axis port = stored
#pragma HLS INTERFACE mode = axis port = verdicts
#pragma HLS INTERFACE mode = ap_memory port = parameters storage_type = rom_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = embedding storage_type = rom_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = activations storage_type = ram_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = key_value storage_type = ram_1p latency = 2
#pragma HLS AGGREGATE variable = embedding compact = bit
#pragma HLS AGGREGATE variable = activations compact = bit
#pragma HLS ARRAY_PARTITION variable = activations type = cyclic factor = 4 dim = 1
#pragma HLS AGGREGATE variable = key_value compact = bit
#pragma HLS ARRAY_PARTITION variable = parameters type = cyclic factor = 2 dim = 2
#pragma HLS ARRAY_PARTITION variable = embedding type = complete dim = 2
#pragma HLS ARRAY_PARTITION variable = key_value type = complete dim = 1
  static vector_state state;
// The gather reads all row blocks at once; everything kept a lane is a register of that lane.
#pragma HLS ARRAY_PARTITION variable = state.residual type = complete dim = 1
#pragma HLS AGGREGATE variable = state.residual compact = bit
#pragma HLS ARRAY_PARTITION variable = state.sum type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.square_sum type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.key_begin type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.key_end type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.result_row type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.table type = complete dim = 2
#pragma HLS AGGREGATE variable = state.score compact = bit
// 128 words: distributed RAM, since resident weights need the block RAM.
#pragma HLS BIND_STORAGE variable = state.score type = ram_s2p impl = lutram
#pragma HLS ARRAY_PARTITION variable = state.reciprocal type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.exponent type = complete dim = 0
// Sums come back to their lane after 32 cycles: a read and a write a cycle. What a record holds is a register a lane.
#pragma HLS BIND_STORAGE variable = state.exits.top type = ram_s2p impl = lutram
#pragma HLS BIND_STORAGE variable = state.exits.total type = ram_s2p impl = lutram
#pragma HLS BIND_STORAGE variable = state.exits.distances type = ram_s2p impl = lutram
#pragma HLS ARRAY_PARTITION variable = state.exits.layer type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.exits.depth type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.exits.entropy type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.exits.foretold type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.exits.first_entropy type = complete dim = 0
#pragma HLS ARRAY_PARTITION variable = state.exits.layers type = cyclic factor = 8 dim = 1
#pragma HLS ARRAY_PARTITION variable = state.exits.outputs type = cyclic factor = 8 dim = 1
// Left alone, tables of 1,024 words would take block RAM, of which a board has none to spare.
#pragma HLS BIND_STORAGE variable = kPowerTable type = rom_1p impl = lutram
#pragma HLS BIND_STORAGE variable = kLogTable type = rom_1p impl = lutram
  vector_unit<predictor>(commands, parameters_ready, parameters_free, data_ready, accumulators, stored, verdicts,
                         parameters, embedding, activations, key_value, state);
}
