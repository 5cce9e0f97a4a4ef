// SPDX-License-Identifier: Apache-2.0
// Fetch: reads the program, one 64-byte instruction at a time, checks it, and expands it into tile commands with
// their tokens (docs/program.md). Field checks keep every unit inside its memories whatever the program says.
#pragma once
#include "fetch_attention.hpp"
#include "fetch_exit.hpp"
#include "fetch_queue.hpp"
#include "vector_state.hpp"

namespace zq {

// A program names image and io bytes in multiples of a beat.
inline bool aligned(uint32_t x) { return (x & 15) == 0; }
inline bool aligned_trace(uint32_t x) { return x == kNoTrace || aligned(x); }
inline bool within(uint32_t x, uint32_t lo, uint32_t hi) { return x >= lo && x <= hi; }
inline bool factor(uint32_t m, uint32_t s) { return m <= 255 && within(s, 1, 31); }
inline bool region(uint32_t base, uint32_t stride, uint32_t blocks, uint32_t words) {
  return base < kActivationWords && stride < kActivationWords && words <= kActivationWords &&
         base + stride * (blocks - 1) + words <= kActivationWords;
}

// Bytes of an embedding row: known from the width, but for an adaptive one, whose codes are as many as it says.
inline bool embedding_row(const instruction& i, uint32_t bytes, uint32_t width) {
  if (!i.flag(20)) return bytes == ((i.flag(19) ? (width + 31) / 32 : (width + 15) / 16) + 1) * 16;
  const uint32_t mask = (width + kMaskChannels - 1) / kMaskChannels;
  return !i.flag(19) && within(bytes, (mask + 1) * 16, kEmbeddingWords * 16);
}

// Of a queue and its steps, far beyond what a host sends; addresses stay within 32 bits.
constexpr uint32_t kMostQueued = 1 << 16;
constexpr uint32_t kMostSteps = 1 << 20;
constexpr uint32_t kMostSection = 64;
constexpr uint32_t kMostStride = 1 << 17;

inline bool valid(const instruction& i, uint32_t row_blocks) {
  const uint32_t* w = i.word;
  switch (i.op()) {
    case kRowsOp: return aligned(w[1]);
    case kTableOp: return aligned(w[1]) && w[2] < uint32_t(kTableIds);
    case kEmbedOp:
      return aligned(w[1]) && aligned(w[2]) && within(w[3], 1, kMaxWidth) && w[4] < 3 && aligned_trace(w[5]) &&
             embedding_row(i, w[2], w[3]) && (!i.flag(19) || w[3] % 32 == 0);
    case kNormOp:
    case kGatherOp:
      return aligned(w[1]) && within(w[2], 1, kMaxWidth) && within(w[3], w[2], kParameterWords) && factor(w[6], w[7]) &&
             aligned_trace(w[8]) && region(w[4], w[5], i.op() == kGatherOp ? 1 : row_blocks, w[3]);
    case kKeepOp: return aligned(w[1]) && within(w[4], 1, kMaxEntries);
    case kGemmOp: {
      const uint32_t blocks = i.flag(19) ? 1 : row_blocks;
      const bool packed = i.flag(21);
      const uint32_t limit = w[7] == kToActivation ? uint32_t(kMaxEntries) : (w[7] == kToIo ? uint32_t(kMaxLabels) : uint32_t(kMaxWidth));
      const bool head = w[14] == 32 || w[14] == 64;
      return (!packed || !i.flag(17)) && (packed || !i.flag(22)) &&
             (!chosen(i) || (packed && w[5] % kBlock == 0 && w[6] % kBlock == 0)) && (!i.flag(23) || !i.flag(17)) && aligned(w[1]) &&
             aligned(w[2]) && within(w[3], 1, kMaxEntries) && w[7] <= kToIo && within(w[4], 1, limit) &&
             region(w[5], w[6], blocks, w[3]) && w[12] < uint32_t(kTables) && aligned_trace(w[13]) &&
             (!branch(i) || w[7] == kToResidual) &&
             ((w[7] != kToActivation && !branch(i)) || region(w[8], w[9], blocks, w[4])) &&
             (w[7] != kToResidual || factor(w[10], w[11])) && (w[7] != kToIo || aligned(w[8])) &&
             (w[7] != kToValues || (head && w[4] % w[14] == 0 && w[4] / w[14] <= uint32_t(kMaxHeads)));
    }
    case kAttentionOp:
      return aligned(w[1]) && (w[3] == 32 || w[3] == 64) && within(w[2], 1, kMaxHeads) && w[2] * w[3] <= uint32_t(kMaxWidth) &&
             region(w[4], w[5], row_blocks, w[2] * w[3]) && region(w[6], kRows, 2, kRows) &&
             region(w[7], w[8], row_blocks, w[2] * w[3]) && aligned_trace(w[9]) && aligned_trace(w[10]) &&
             aligned(w[11]);
    case kExitOp:
      return !i.signal() && (i.flag(17) || !i.flag(18)) && aligned(w[1]) && aligned(w[2]) && within(w[3], 1, kMaxEntries) &&
             within(w[4], 1, kMaxLabels) && region(w[5], 0, 1, w[3]) && aligned(w[6]) && aligned(w[7]) &&
             within(w[8], 32768, 65535) && within(w[9], 1, 31) && within(w[10], 1, kMaxLayers) &&
             within(w[11], 0, 32767) && within(w[12], 0, 15) &&
             (!i.flag(20) || (!i.flag(17) && !i.flag(19) && aligned(w[13]) && w[13] <= kMostStride));
    case kRefillOp:
      return aligned(w[1]) && aligned(w[3]) && within(w[2], 1, kMostQueued) && within(w[4], 1, kMostSection) &&
             row_blocks == uint32_t(kRowBlocks);
    case kLoopOp: return within(w[2], 1, kMostSteps);
    default: return true;
  }
}

// Queries, keys and values in this order, of the heads that the attention has.
inline bool fits_attention(const held_gemms& held, const instruction& attention) {
  const uint32_t n = attention.word[2] * attention.word[3];
  bool fits = held.count == 0 || held.count == 3;
fits_attention:
  for (int g = 0; g < held.count; ++g) {
    const int wanted = g == 0 ? kToActivation : (g == 1 ? kToKeys : kToValues);
    const uint32_t* w = held.gemm[g].word;
    fits = fits && int(w[7]) == wanted && w[4] == n && !held.gemm[g].flag(19) && !held.gemm[g].signal() &&
           (g != 2 || w[14] == attention.word[3]);
  }
  return fits;
}

template <class Port>
instruction read_instruction(Port& port, uint64_t byte_address) {
  instruction i;
read_instruction:
  for (int b = 0; b < kInstructionBeats; ++b) {
#pragma HLS PIPELINE II = 1
    const beat x = port[(byte_address >> 4) + b];
  read_instruction_halves:
    for (int h = 0; h < 2; ++h) {
#pragma HLS UNROLL
      i.word[4 * b + 2 * h] = uint32_t((x.half[h] & uint<64>(0xFFFFFFFFu)).to_uint64());
      i.word[4 * b + 2 * h + 1] = uint32_t((x.half[h] >> 32).to_uint64());
    }
  }
  return i;
}

// At the end load and weights take back the credits still out, so that every stream is empty between programs.
inline void fetch_end(command_streams& out, const fetch_state& state) {
  load_command drain = load_of(kLoadDrain, 0, 0);
  drain.pop_parameters_free = uint<2>(state.vector_loads < kSlots ? state.vector_loads : kSlots);
  out.load.write(drain);
  weights_command weights;
  weights.kind = uint<2>(int(kWeightsDrain));
  weights.pop_weights_free = uint<4>(state.ring.tiles);
  out.weights.write(weights);
  store_command end;
  end.end = uint<1>(1);
  out.store.write(end);
}

// What runs where no sentence is left in the pass: what fills it again, and what leads there.
inline bool needs_rows(const instruction& i) { return i.op() != kRefillOp && i.op() != kLoopOp && i.op() != kEnd; }

inline uint32_t status_of(const instruction& i, uint32_t row_blocks) {
  if (i.op() >= kOpcodes) return kBadOpcode;
  return valid(i, row_blocks) ? kOk : kBadField;
}

// A fault in what has been expanded comes first; else the first one in compressed weights.
inline fetch_result result_of(const fetch_result& fetched, const weights_status& weights) {
  if (fetched.status != kOk || weights.code == kOk) return fetched;
  return {uint32_t(weights.code.to_uint64()), uint32_t(weights.instruction.to_uint64())};
}

// A GEMM waits until the instruction after it is known: a NORM there joins one to the residual. Those with flag 23 wait
// for the ATTENTION that follows them. `verdicts` has a read() that waits for the vector unit's answer to an EXIT; where
// that chooses an output of the clocking wizard, it goes to `clock_output`.
template <class Port, class Verdicts>
fetch_result fetch_program(const fetch_arguments& a, Port& port, command_streams& out, Verdicts& verdicts,
                           uint32_t* clock_output) {
  fetch_result result = {kOk, 0};
  fetch_state state = {};
  if (a.row_blocks < 1 || a.row_blocks > uint32_t(kRowBlocks)) result.status = kBadField;
  bool running = result.status == kOk;
  state.live = rows_of_mask(running ? (1u << a.row_blocks) - 1 : 0);
  state.queue.section_end = kNoSection;
  bool waiting = false;
  instruction gemm = {};
  held_gemms held = {};
fetch_program:
  for (uint64_t n = 0; n <= a.instructions; ++n) {
    if (running) {
      instruction i = {};  // past the last one: END
      if (n < a.instructions) {
        i = read_instruction(port, a.program + n * kInstructionBeats * 16);
        result.status = status_of(i, a.row_blocks);
        result.detail = uint32_t(n);
      }
      const bool grouped = i.op() == kGemmOp && i.flag(23);
      if (result.status == kOk && ((held.count > 0 && i.op() != kAttentionOp && !(grouped && held.count < 3)) ||
                                   (i.op() == kAttentionOp && !fits_attention(held, i))))
        result.status = kBadField;
      if (result.status == kOk && state.live.count == 0 && needs_rows(i)) result.status = kBadField;
      if (result.status == kOk && i.op() == kLoopOp && i.word[1] >= n) result.status = kBadField;
      running = result.status == kOk && i.op() != kEnd;
      uint32_t fault = kOk;
      const bool joined = waiting && running && i.op() == kNormOp && gemm.word[7] == kToResidual;
      if (waiting) {
        state.instruction = uint32_t(n - 1);
        if (!fetch_gemm(gemm, a, port, out, state, joined, i)) fault = kBadDirectory;
      }
      if (uint32_t(n) == state.queue.section_end) join_fresh(state);
      waiting = fault == kOk && running && i.op() == kGemmOp && !grouped;
      if (waiting) gemm = i;
      if (fault == kOk && running && !joined) {
        state.instruction = uint32_t(n);
        switch (i.op()) {
          case kRowsOp: fetch_rows(i, a, out, state); break;
          case kTableOp: fetch_table(i, a, out, state); break;
          case kEmbedOp: fetch_embed(i, a, out, state); break;
          case kNormOp:
          case kGatherOp: fetch_norm(i, a, out, state, i.op() == kGatherOp); break;
          case kExitOp:
            fetch_exit(i, a, out, state, verdicts, clock_output);
            running = i.flag(20) || state.live.count > 0;
            break;
          case kRefillOp:
            if (!fetch_refill(i, a, port, out, state, n)) fault = kBadField;
            running = fault == kOk && state.live.count > 0;
            break;
          case kLoopOp:
            ++state.queue.steps;
            running = state.queue.steps < i.word[2];
            n = uint64_t(i.word[1]) - 1;
            break;
          case kKeepOp:
            if (!fetch_keep(i, a, port, out, state)) fault = kBadDirectory;
            break;
          case kAttentionOp:
            fault = fetch_attention(i, held, a, port, out, state);
            held.count = 0;
            break;
          default:
            if (grouped) {
              held.gemm[held.count] = i;
              held.index[held.count] = uint32_t(n);
              ++held.count;
            }
            break;
        }
      }
      if (fault != kOk) {
        result.status = fault;
        result.detail = state.instruction;
        running = false;
        waiting = false;
      }
    }
  }
  fetch_end(out, state);
  return result;
}

}  // namespace zq
