// SPDX-License-Identifier: Apache-2.0
// Fetch: ATTENTION with the GEMMs of its queries, keys and values, heads of one column tile beside the projections of
// the next (docs/program.md).
#pragma once
#include "fetch_gemm.hpp"

namespace zq {

// Tokens still to pop so that `wanted` of them have been.
inline int tokens_up_to(const fetch_state& state, uint32_t wanted) {
  return wanted > state.popped ? int(wanted - state.popped) : 0;
}

// Keys that a head of some span needs of a row block's rows (Q23), as row blocks from `first` to before `end`: those that
// come near enough, and none beyond the last live one.
struct key_range {
  int first;
  int end;
};

inline key_range keys_of(const fetch_state& state, int rb, int span) {
  const int below = (rb * kLanes - (span - 1)) / kLanes;  // towards 0: none below it
  const int above = (rb * kLanes + kLanes - 1 + span - 1) / kLanes + 1;
  const int end = state.live.last() + 1;
  const int first = rb * kLanes > span - 1 ? below : 0;
  return {first, above < end ? above : end};
}

// Of each head; those that no flag gives one see all.
struct head_spans {
  uint<8> span[kMaxHeads];
};

template <class Port>
head_spans read_spans(const instruction& i, const fetch_arguments& a, Port& port) {
  head_spans spans;
read_full_spans:
  for (int h = 0; h < kMaxHeads; ++h) {
#pragma HLS UNROLL
    spans.span[h] = uint<8>(kFullSpan);
  }
  if (i.flag(18)) {
  read_spans:
    for (int b = 0; b < kMaxHeads / 16; ++b) {
#pragma HLS PIPELINE II = 1
      const beat x = port[((a.image + i.word[11]) >> 4) + b];
    read_spans_bytes:
      for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
        spans.span[16 * b + j] = byte_of(x, j);
      }
    }
  }
  return spans;
}

inline bool valid_spans(const instruction& i, const head_spans& spans) {
  bool valid = true;
valid_spans:
  for (int h = 0; h < kMaxHeads; ++h) {
#pragma HLS UNROLL
    valid = valid && (h >= int(i.word[2]) || (spans.span[h] >= 1 && spans.span[h] <= kFullSpan));
  }
  return valid;
}

// An attention on its way: items (head, row block), head outer. The oldest `pending` items that have their scores have
// no context yet; two at most, since P and the reciprocals have two slots.
struct attention_state {
  int items;    // whose scores have been sent
  int pending;
  uint32_t scored[kSlots];  // data tokens pushed up to the scores of item n, at n % 2
  head_spans spans;
};

// Scores of the next item, which need the first `ready` tokens.
inline void send_scores(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                        attention_state& at, uint32_t ready) {
  const int blocks = a.row_blocks;
  const int width = i.word[3];
  const int head = at.items / state.live.count;
  const int rb = state.live.block[at.items % state.live.count];
  const int slot = at.items % kSlots;
  const int span = at.spans.span[head].to_int();
  const key_range keys = keys_of(state, rb, span);
  // Row blocks share words of the key memory two by two.
  const int aligned = keys.first / kKeyGroups * kKeyGroups;
  const int words = (keys.end - aligned) * kLanes;
fetch_score_tiles:
  for (int first = aligned; first < keys.end; first += kKeyGroups) {
    const int groups = keys.end - first < kKeyGroups ? keys.end - first : kKeyGroups;
    array_command m;
    m.w8 = m.keys_values = uint<1>(1);
    m.operand = uint<15>(i.word[4] + rb * i.word[5] + head * width);
    m.key_value = uint<13>(first / kKeyGroups * kMaxWidth + head * width);
    m.k = uint<13>(width);
    m.words = uint<8>(groups * kLanes);
    m.pop_data = uint<8>(tokens_up_to(state, ready));
    send_array(out, state, m);
  }
  vector_command v = vector_of(kScores, 0);
  v.words = uint<11>(words);
  v.span = uint<8>(span);
  v.key_block = uint<2>(aligned);
  v.row_block = uint<2>(rb);
  v.channel = uint<11>(head * 2 * ceil_div(1 + width, 2));
  v.address = uint<15>(i.word[6] + slot * kRows);
  v.item_slot = uint<1>(slot);
  v.normalized = uint<1>(i.flag(17) ? 1 : 0);
  v.push_data = uint<3>(1);
  if (i.word[10] != kNoTrace) {
    v.tee = uint<1>(1);
    const uint64_t word = ((uint64_t(head) * blocks + rb) * blocks + aligned) * kLanes;
    send_store(out, trace_address(a, i.word[10], word, false), words, false);
  }
  send_vector(out, state, v);
  at.scored[slot] = state.pushed;
  ++at.items;
  ++at.pending;
}

// Context of the oldest item that has its scores.
inline void send_context(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                         attention_state& at, bool last) {
  const int heads = i.word[2];
  const int width = i.word[3];
  const int item = at.items - at.pending;
  const int head = item / state.live.count;
  const int rb = state.live.block[item % state.live.count];
  const int slot = item % kSlots;
  const key_range keys = keys_of(state, rb, at.spans.span[head].to_int());
  array_command m;
  m.w8 = m.unsigned_operand = m.keys_values = uint<1>(1);
  // The numerators lie from the first key scored on, which may be a row block before the first one needed.
  m.operand = uint<15>(i.word[6] + slot * kRows + keys.first % kKeyGroups * kLanes);
  m.key_value = uint<13>(kValueBase + head * kRows + keys.first * kLanes);
  m.k = uint<13>((keys.end - keys.first) * kLanes);
  m.words = uint<8>(width);
  m.pop_data = uint<8>(tokens_up_to(state, at.scored[slot]));
  send_array(out, state, m);
  vector_command v = vector_of(kContext, 0);
  v.words = uint<11>(width);
  v.row_block = uint<2>(rb);
  v.channel = uint<11>(head * 2 * ceil_div(1 + width, 2));
  v.address = uint<15>(i.word[7] + rb * i.word[8] + head * width);
  v.item_slot = uint<1>(slot);
  // All at the end: a token in between would stand for numerators that are not there yet.
  v.push_data = uint<3>(last && i.signal() ? state.live.count : 0);
  if (i.word[9] != kNoTrace) {
    v.tee = uint<1>(1);
    const uint64_t word = (uint64_t(rb) * heads + head) * width;
    send_store(out, trace_address(a, i.word[9], word, false), width, false);
  }
  send_vector(out, state, v);
  --at.pending;
}

// Items up to `until` beside projections: contexts go first, since their K steps are more than the scores', so that the
// array waits less for the drain of the tile before; and two by two, so that it does so less often.
inline void send_hidden_items(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                              attention_state& at, int until, uint32_t ready) {
fetch_hidden_items:
  while (at.items < until) {
  fetch_hidden_contexts:
    while (at.pending > 0) send_context(i, a, out, state, at, false);
  fetch_hidden_scores:
    for (int n = 0; n < kSlots && at.items < until; ++n) send_scores(i, a, out, state, at, ready);
  }
}

// Items up to `until` with nothing beside them: scores of one run ahead of the context of the one before, so that the
// array has work while the vector unit is at the softmax.
inline void send_items(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                       attention_state& at, int until, uint32_t ready) {
fetch_items:
  while (at.items < until) {
  fetch_items_contexts:
    while (at.pending >= kSlots) send_context(i, a, out, state, at, false);
    send_scores(i, a, out, state, at, ready);
    if (at.pending >= kSlots) send_context(i, a, out, state, at, false);
  }
}

// The GEMMs of queries, keys and values that wait for their ATTENTION.
struct held_gemms {
  instruction gemm[3];
  uint32_t index[3];
  int count;
};

// The heads of a column tile run beside the projections of the next; all of them alone where no GEMM is held. Of a
// group's items, as many have run after step s of its S tiles as s + 1 is of S. A status_code, with the instruction at
// fault in state; nothing has been sent then.
template <class Port>
uint32_t fetch_attention(const instruction& i, const held_gemms& held, const fetch_arguments& a, Port& port,
                     command_streams& out, fetch_state& state) {
  const uint32_t own = state.instruction;
  const int blocks = state.live.count;
  const int heads = i.word[2];
  const int width = i.word[3];
  const int beats = heads * ceil_div(1 + width, 2);
  const int group_heads = held.count > 0 ? kColumns / width : heads;
  const int groups = ceil_div(heads, group_heads);
  tile_entry entries[3][kMaxTiles] = {};
fetch_attention_directories:
  for (int g = 0; g < held.count; ++g) {
    state.instruction = held.index[g];
    if (compressed(held.gemm[g]) && !read_directory(held.gemm[g], a, port, entries[g])) return kBadDirectory;
  }
  state.instruction = own;
  attention_state at = {0, 0, {0, 0}, read_spans(i, a, port)};
  if (!valid_spans(i, at.spans)) return kBadField;
  const int slot = send_to_vector(out, state, load_of(kLoadParameters, a.image + i.word[1], beats));
  vector_command copy = vector_of(kCopyHeads, slot);
  copy.words = uint<11>(2 * beats);
  copy.pop_parameters = copy.push_parameters_free = uint<1>(1);
  send_vector(out, state, copy);
  tile_loads loads = tile_loads();
fetch_attention_groups:
  for (int group = 0; group <= groups; ++group) {
    const int steps = held.count > 0 && group < groups ? 3 * blocks : 0;
    const int before = at.items;
    const int until = (group_heads * group < heads ? group_heads * group : heads) * blocks;
    // Keys and values of the group, by the tokens up to here.
    const uint32_t ready = held.count > 0 ? state.pushed : state.popped + uint32_t(i.wait() * blocks);
  fetch_attention_steps:
    for (int step = 0; step < steps; ++step) {
      const int g = step / blocks;
      const int n = step % blocks;
      const instruction& gemm = held.gemm[g];
      state.instruction = held.index[g];
      if (n == 0)
        loads = send_tile_loads(gemm, a, out, state, group, compressed(gemm) ? entries[g][group] : tile_entry());
      // The scores of the group wait for all of it.
      send_tile(gemm, a, out, state, group, state.live, n, loads, step == steps - 1 ? 1 : 0);
      state.instruction = own;
      const int due = before + (until - before) * (step + 1) / steps;
      if (due - at.items >= kSlots || step == steps - 1) send_hidden_items(i, a, out, state, at, due, ready);
    }
    send_items(i, a, out, state, at, until, ready);
  }
fetch_attention_end:
  while (at.pending > 0) send_context(i, a, out, state, at, at.pending == 1);
  return kOk;
}

}  // namespace zq
