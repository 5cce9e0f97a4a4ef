// SPDX-License-Identifier: Apache-2.0
// Weights as an IP of its own: free-running, one command a pass. On a board with fewer weight ports the last stay unused.
// The block protocol is no pragma: the configuration file of synthesis makes it ap_ctrl_none, which co-simulation
// cannot drive, and co-simulation runs with the tool's own, ap_ctrl_hs.
#include "../testbench/size.hpp"
#include "weights.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_weights(hls::stream<weights_command>& commands, beat* hp0, beat* hp1, beat* hp2, beat* hp3, beat* hp4,
                    beat* hp5, hls::stream<token>& weights_free, hls::stream<segment_command>& segments,
                    hls::stream<beat> masks[kPorts], hls::stream<beat> values[kPorts],
                    hls::stream<weights_status>& faults) {
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = weights_free
#pragma HLS INTERFACE mode = axis port = segments
#pragma HLS INTERFACE mode = axis port = masks
#pragma HLS INTERFACE mode = axis port = values
#pragma HLS INTERFACE mode = axis port = faults
#pragma HLS INTERFACE mode = m_axi port = hp0 bundle = hp0 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp1 bundle = hp1 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp2 bundle = hp2 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp3 bundle = hp3 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp4 bundle = hp4 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
#pragma HLS INTERFACE mode = m_axi port = hp5 bundle = hp5 offset = off depth = kTestbenchBeats max_read_burst_length = 64 num_read_outstanding = 16
  static weights_state state;
#pragma HLS AGGREGATE variable = state.resident compact = bit
// A sequential read of what a command before this one wrote: never within one.
#pragma HLS DEPENDENCE variable = state.resident type = inter false
  weights_unit(commands, hp0, hp1, hp2, hp3, hp4, hp5, weights_free, segments, masks, values, faults, state);
}
