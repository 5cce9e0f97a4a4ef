// SPDX-License-Identifier: Apache-2.0
// Expand as an IP of its own: free-running, one command a pass.
// The block protocol is no pragma: the configuration file of synthesis makes it ap_ctrl_none, which co-simulation
// cannot drive, and co-simulation runs with the tool's own, ap_ctrl_hs.
#include "expand.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_expand(hls::stream<expand_command>& commands, hls::stream<segment_command>& segments,
                   hls::stream<beat> masks[kPorts], hls::stream<beat> values[kPorts],
                   hls::stream<token>& weights_ready, weight_word weights[kWeightWords]) {
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = segments
#pragma HLS INTERFACE mode = axis port = masks
#pragma HLS INTERFACE mode = axis port = values
#pragma HLS INTERFACE mode = axis port = weights_ready
#pragma HLS INTERFACE mode = ap_memory port = weights storage_type = ram_1p latency = 2
#pragma HLS AGGREGATE variable = weights compact = bit
  expand_unit(commands, segments, masks, values, weights_ready, weights);
}
