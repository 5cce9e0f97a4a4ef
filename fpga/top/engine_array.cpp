// SPDX-License-Identifier: Apache-2.0
// MAC array as an IP of its own: free-running, one tile a pass.
// The block protocol is no pragma: the configuration file of synthesis makes it ap_ctrl_none, which co-simulation
// cannot drive, and co-simulation runs with the tool's own, ap_ctrl_hs.
#include "mac_array.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_array(hls::stream<array_command>& commands, hls::stream<token>& weights_ready,
                  hls::stream<token>& weights_free, hls::stream<token>& data_ready,
                  hls::stream<acc_word>& accumulators, const activation_word activations[kActivationWords],
                  const weight_word weights[kWeightWords],
                  const activation_word key_value[kGroups][kKeyValueWords]) {
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = weights_ready
#pragma HLS INTERFACE mode = axis port = weights_free
#pragma HLS INTERFACE mode = axis port = data_ready
#pragma HLS INTERFACE mode = axis port = accumulators
#pragma HLS INTERFACE mode = ap_memory port = activations storage_type = rom_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = weights storage_type = rom_1p latency = 2
#pragma HLS INTERFACE mode = ap_memory port = key_value storage_type = rom_1p latency = 2
#pragma HLS AGGREGATE variable = activations compact = bit
#pragma HLS ARRAY_PARTITION variable = activations type = cyclic factor = 4 dim = 1
#pragma HLS AGGREGATE variable = weights compact = bit
#pragma HLS AGGREGATE variable = key_value compact = bit
#pragma HLS ARRAY_PARTITION variable = key_value type = complete dim = 1
  static array_state state;
#pragma HLS ARRAY_PARTITION variable = state.p type = complete dim = 0
  array_unit(commands, weights_ready, weights_free, data_ready, accumulators, activations, weights, key_value, state);
}
