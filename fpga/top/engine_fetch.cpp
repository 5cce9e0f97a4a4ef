// SPDX-License-Identifier: Apache-2.0
// Fetch as an IP of its own: runs one program, waits until store has written the last word, and reports how it went,
// with the first fault of the weights. `clock_output` is valid for a cycle whenever an EXIT has chosen an output.
// rtl/engine_control.v has the registers and drives the plain ports here. `program` alone would be a reserved word of
// SystemVerilog.
#include "../testbench/size.hpp"
#include "fetch.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_fetch(uint64_t program_address, uint64_t image_address, uint64_t io_address, uint32_t instructions,
                  uint32_t row_blocks, uint32_t* status, uint64_t* detail, beat* hp0, command_streams& commands,
                  hls::stream<token>& done, hls::stream<weights_status>& faults, hls::stream<exit_verdict>& verdicts,
                  uint32_t* clock_output) {
#pragma HLS INTERFACE mode = ap_ctrl_hs port = return
#pragma HLS INTERFACE mode = ap_none port = program_address
#pragma HLS INTERFACE mode = ap_none port = image_address
#pragma HLS INTERFACE mode = ap_none port = io_address
#pragma HLS INTERFACE mode = ap_none port = instructions
#pragma HLS INTERFACE mode = ap_none port = row_blocks
#pragma HLS INTERFACE mode = ap_vld port = status
#pragma HLS INTERFACE mode = ap_vld port = detail
#pragma HLS INTERFACE mode = m_axi port = hp0 bundle = hp0 offset = off depth = kTestbenchBeats max_read_burst_length = 16
// Six ports: commands_load, commands_weights, commands_expand and so on.
#pragma HLS DISAGGREGATE variable = commands
#pragma HLS INTERFACE mode = axis port = commands.load
#pragma HLS INTERFACE mode = axis port = commands.weights
#pragma HLS INTERFACE mode = axis port = commands.expand
#pragma HLS INTERFACE mode = axis port = commands.array
#pragma HLS INTERFACE mode = axis port = commands.vector
#pragma HLS INTERFACE mode = axis port = commands.store
#pragma HLS INTERFACE mode = axis port = done
#pragma HLS INTERFACE mode = axis port = faults
#pragma HLS INTERFACE mode = axis port = verdicts
#pragma HLS INTERFACE mode = ap_vld port = clock_output
  const fetch_result fetched =
      fetch_program({program_address, image_address, io_address, instructions, row_blocks}, hp0, commands, verdicts,
                    clock_output);
  done.read();
  const fetch_result result = result_of(fetched, faults.read());
  *status = result.status;
  *detail = result.detail;
}
