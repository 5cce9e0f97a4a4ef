// SPDX-License-Identifier: Apache-2.0
// Fetch: REFILL and LOOP, by which sentences of a queue take the row blocks of those that left (docs/program.md,
// Continuous batching).
//
// An entry of the queue: a beat whose first byte is its row blocks; two beats, byte 8 * r + j the row of the entry whose
// final state becomes lane j of its row block r (0xFF: none); a beat a row, as the row block header has them, keys
// counted from the entry's first row. Entries go in their order, each to the first row blocks that are free and side by
// side; one that finds none holds back those behind it. One of no row blocks ends the queue.
#pragma once
#include "fetch_gemm.hpp"

namespace zq {

constexpr uint32_t kNoSection = 0xFFFFFFFFu;

inline uint32_t mask_of(const row_set& rows) {
  uint32_t mask = 0;
mask_of_rows:
  for (int n = 0; n < rows.count; ++n) mask |= 1u << rows.block[n];
  return mask;
}

// The first of `count` row blocks side by side that are not in `taken`; kRowBlocks if there are none.
inline int first_free(uint32_t taken, int count) {
  int found = kRowBlocks;
first_free:
  for (int rb = kRowBlocks - 1; rb >= 0; --rb) {
#pragma HLS UNROLL
    const uint32_t wanted = ((1u << count) - 1) << rb;
    if (rb + count <= kRowBlocks && (taken & wanted) == 0) found = rb;
  }
  return found;
}

// Rows and lanes of an entry to its row blocks. `reset`: no lane of the pass before is left.
inline void send_entry(uint64_t byte_address, int count, int rb, bool reset, command_streams& out, fetch_state& state) {
  const int beats = 2 + count * kLanes;
  load_command l = load_of(kLoadRows, byte_address + 16, beats);
  l.row_block = uint<2>(rb);
  vector_command v = vector_of(kCopyRows, send_to_vector(out, state, l));
  v.words = uint<11>(2 * beats);
  v.row_block = uint<2>(rb);
  v.refill = uint<1>(1);
  v.first_tile = uint<1>(reset ? 1 : 0);
  v.pop_parameters = v.push_parameters_free = uint<1>(1);
  send_vector(out, state, v);
}

// Takes what fits of the queue; the instructions behind, as many as the instruction says, then run over these row
// blocks alone. False where an entry has row blocks that none can have. `n`: index of the instruction, moved behind the
// section where nothing was taken.
template <class Port>
bool fetch_refill(const instruction& i, const fetch_arguments& a, Port& port, command_streams& out, fetch_state& state,
                  uint64_t& n) {
  queue_state& queue = state.queue;
  uint32_t taken = queue.begun ? mask_of(state.live) : 0;
  uint32_t fresh = 0;
  bool fits = true;
  bool valid = true;
fetch_refill:
  while (fits && valid && queue.head < i.word[2]) {
    const uint64_t entry = a.io + i.word[1] + uint64_t(queue.head) * i.word[3];
    const beat head = port[entry >> 4];
    const int count = int(word_of(head, 0) & 255u);
    if (count == 0) queue.head = i.word[2];
    valid = count <= kRowBlocks;
    const int rb = valid && count > 0 ? first_free(taken | fresh, count) : kRowBlocks;
    fits = rb < kRowBlocks;
    if (fits) {
      send_entry(entry, count, rb, !queue.begun, out, state);
      queue.begun = true;
      fresh |= ((1u << count) - 1) << rb;
      ++queue.head;
    }
  }
  queue.old = taken;
  queue.fresh = fresh;
  if (fresh != 0) {
    state.live = rows_of_mask(fresh);
    queue.section_end = uint32_t(n) + 1 + i.word[4];
  } else {
    state.live = rows_of_mask(taken);
    n += i.word[4];
  }
  return valid;
}

// The section is over: what follows runs over all row blocks that live. Tokens of the fresh ones are the next product's.
inline void join_fresh(fetch_state& state) {
  state.live = rows_of_mask(state.queue.old | state.queue.fresh);
  state.owed = state.pushed - state.popped;
  state.queue.section_end = kNoSection;
}

}  // namespace zq
