// SPDX-License-Identifier: Apache-2.0
// Fetch as an IP of its own, the only one with registers (fpga/registers.py, docs/registers.md): runs one program,
// waits until store has written the last word, and reports how it went.
#include "fetch.hpp"

using namespace zq;  // NOLINT: tops sit outside the namespace, as the tool wants them

void engine_fetch(uint64_t program, uint64_t image, uint64_t io, uint32_t instructions, uint32_t row_blocks,
                  uint32_t* status, uint64_t* detail, uint32_t* id, beat* hp0, command_streams& commands, hls::stream<token>& done) {
#pragma HLS INTERFACE mode = s_axilite port = return bundle = control
#pragma HLS INTERFACE mode = s_axilite port = program bundle = control offset = 0x10
#pragma HLS INTERFACE mode = s_axilite port = image bundle = control offset = 0x20
#pragma HLS INTERFACE mode = s_axilite port = io bundle = control offset = 0x30
#pragma HLS INTERFACE mode = s_axilite port = instructions bundle = control offset = 0x40
#pragma HLS INTERFACE mode = s_axilite port = row_blocks bundle = control offset = 0x48
#pragma HLS INTERFACE mode = s_axilite port = status bundle = control offset = 0x50
#pragma HLS INTERFACE mode = s_axilite port = detail bundle = control offset = 0x60
#pragma HLS INTERFACE mode = s_axilite port = id bundle = control offset = 0x70
#pragma HLS INTERFACE mode = m_axi port = hp0 bundle = hp0 offset = off max_read_burst_length = 16
#pragma HLS INTERFACE mode = axis port = commands
#pragma HLS INTERFACE mode = axis port = done
  const fetch_result result = fetch_program({program, image, io, instructions, row_blocks}, hp0, commands);
  done.read();
  *status = result.status;
  *detail = result.detail;
  *id = kEngineId;
}
