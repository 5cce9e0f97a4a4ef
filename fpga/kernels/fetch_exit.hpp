// SPDX-License-Identifier: Apache-2.0
// Fetch: EXIT, and who is left after it (docs/program.md, Leaving early).
#pragma once
#include "fetch_gemm.hpp"

namespace zq {

// The product of an EXIT as the GEMM that it is: w8, of the result block.
inline instruction product_of(const instruction& exit) {
  instruction gemm = exit;
  gemm.word[0] = uint32_t(kGemmOp) | (exit.word[0] & 0xFF00u) | 1u << 17 | 1u << 19;
  gemm.word[6] = 0;
  return gemm;
}

// An off-ramp: its logits to io, tile by tile, then the record.
inline void send_exit(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const instruction gemm = product_of(i);
  const row_set rows = rows_of(state, true);
  const int tiles = tile_count(gemm);
fetch_exit_tiles:
  for (int ct = 0; ct < tiles; ++ct) {
    const bool last = ct == tiles - 1;
    const int columns = tile_words(gemm, ct);
    const tile_loads loads = send_tile_loads(gemm, a, out, state, ct, tile_entry());
    send_product(gemm, out, state, ct, rows, 0, loads);
    vector_command v = vector_of(kLinear, loads.slot);
    v.words = uint<11>(columns);
    v.destination = uint<3>(int(kToExit));
    v.pop_parameters = v.push_parameters_free = v.tee = uint<1>(1);
    v.first_tile = uint<1>(ct == 0 ? 1 : 0);
    v.last_tile = uint<1>(last ? 1 : 0);
    v.predict = uint<1>(i.flag(17) ? 1 : 0);
    v.clock = uint<1>(i.flag(18) ? 1 : 0);
    v.last = uint<1>(i.flag(19) ? 1 : 0);
    v.entropy_m = uint<16>(i.word[8]);
    v.s = uint<5>(i.word[9]);
    v.counted = uint<1>(i.flag(20) ? 1 : 0);
    v.layer = uint<6>(i.word[10]);
    v.threshold = uint<15>(i.word[11]);
    v.row_shift = uint<4>(i.word[12]);
    const uint32_t step = i.flag(20) ? state.queue.steps * i.word[13] : 0;  // each has its own place
    send_store(out, trace_address(a, i.word[6] + step, uint64_t(ct) * tile_width(gemm), true), columns, true);
    if (last) send_store(out, trace_address(a, i.word[7] + step, 0, true), kRecordWords, true);
    send_vector(out, state, v);
  }
}

// Sends an EXIT, waits for the verdict and keeps the row blocks in which a sentence is left.
template <class Verdicts>
void fetch_exit(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                Verdicts& verdicts, uint32_t* clock_output) {
  send_exit(i, a, out, state);
  const exit_verdict verdict = verdicts.read();
  uint32_t live = 0;
fetch_exit_live:
  for (int n = 0; n < state.live.count; ++n) live |= uint32_t(verdict.live.to_uint64()) & 1u << state.live.block[n];
  state.live = rows_of_mask(live);
  if (verdict.choose == 1) *clock_output = uint32_t(verdict.output.to_uint64());
}

}  // namespace zq
