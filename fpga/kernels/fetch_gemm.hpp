// SPDX-License-Identifier: Apache-2.0
// Fetch: the instructions but for ATTENTION, each to tile commands with their tokens (docs/program.md).
#pragma once
#include "fetch_weights.hpp"

namespace zq {

// The live row blocks, or the result block.
inline row_set rows_of(const fetch_state& state, bool result_block) {
  return result_block ? row_set{{0, 0, 0, 0}, 1} : state.live;
}

inline void fetch_rows(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const int beats = 2 + int(a.row_blocks) * kLanes;
  const int slot = send_to_vector(out, state, load_of(kLoadRows, a.io + i.word[1], beats));
  vector_command v = vector_of(kCopyRows, slot);
  v.words = uint<11>(2 * beats);
  v.pop_parameters = v.push_parameters_free = uint<1>(1);
  send_vector(out, state, v);
}

inline void fetch_table(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const int slot = send_to_vector(out, state, load_of(kLoadTable, (i.flag(17) ? a.io : a.image) + i.word[1], 16));
  vector_command v = vector_of(kCopyTable, slot);
  v.table = uint<3>(i.word[2]);
  v.words = uint<11>(32);
  v.pop_parameters = v.push_parameters_free = uint<1>(1);
  send_vector(out, state, v);
}

inline void fetch_embed(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const int width = i.word[3];
fetch_embed_blocks:
  for (int n = 0; n < state.live.count; ++n) {
    const int rb = state.live.block[n];
    load_command l = load_of(kLoadEmbedding, a.image + i.word[1], i.word[2] / 16);
    l.row_block = uint<2>(rb);
    l.field = uint<2>(i.word[4]);
    vector_command v = vector_of(kEmbed, send_to_vector(out, state, l));
    v.words = uint<11>(width);
    v.row_block = uint<2>(rb);
    v.first_tile = uint<1>(i.flag(17) ? 1 : 0);
    v.width = uint<11>(i.word[2] / 16);
    v.four_bit = uint<1>(i.flag(19) ? 1 : 0);
    v.adaptive = uint<1>(i.flag(20) ? 1 : 0);
    v.pop_parameters = v.push_parameters_free = uint<1>(1);
    if (i.word[5] != kNoTrace) {
      v.tee = uint<1>(1);
      send_store(out, trace_address(a, i.word[5], uint64_t(rb) * width, true), width, true);
    }
    send_vector(out, state, v);
  }
}

inline int send_norm_parameters(const instruction& i, const fetch_arguments& a, command_streams& out,
                                fetch_state& state) {
  return send_to_vector(out, state, load_of(kLoadParameters, a.image + i.word[1], ceil_div(int(i.word[3]), 2)));
}

inline void send_norm_block(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                            bool gather, int slot, const row_set& rows, int n) {
  const int rb = rows.block[n];
  const int width = i.word[2];
  const int entries = i.word[3];
  const uint32_t trace = i.word[8];
  vector_command v = vector_of(gather ? kGather : kNorm, slot);
  v.words = uint<11>(entries);
  v.width = uint<11>(width);
  v.row_block = uint<2>(rb);
  v.address = uint<15>(i.word[4] + rb * i.word[5]);
  v.m = uint<8>(i.word[6]);
  v.s = uint<5>(i.word[7]);
  v.plain = uint<1>(i.flag(17) ? 1 : 0);
  v.pop_parameters = uint<1>(n == 0 ? 1 : 0);
  v.push_parameters_free = uint<1>(n == rows.count - 1 ? 1 : 0);
  v.push_data = uint<3>(i.signal() ? 1 : 0);
  if (trace != kNoTrace) {
    v.tee = uint<1>(1);
    const int words = gather ? entries : width;
    send_store(out, trace_address(a, trace, uint64_t(rb) * words, !gather), words, !gather);
  }
  send_vector(out, state, v);
}

inline void fetch_norm(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                       bool gather) {
  const row_set rows = rows_of(state, gather);
  const int slot = send_norm_parameters(i, a, out, state);
fetch_norm_blocks:
  for (int n = 0; n < rows.count; ++n) send_norm_block(i, a, out, state, gather, slot, rows, n);
}

// What a column tile's commands name: words of the weight buffer, none where it is all zeros, and the parameter slot.
struct tile_loads {
  bool zero;
  int word;
  int slot;
  int steps;
  int bound;
};

inline int tile_words(const instruction& i, int ct) {
  const int left = int(i.word[4]) - ct * tile_width(i);
  return left < tile_width(i) ? left : tile_width(i);
}

// Weights and parameters of column tile ct.
inline tile_loads send_tile_loads(const instruction& i, const fetch_arguments& a, command_streams& out,
                                  fetch_state& state, int ct, const tile_entry& entry) {
  const int k = tile_steps(int(i.word[3]), entry);
  const bool packed = compressed(i);
  tile_loads loads = {packed && entry.kind == 0, 0, 0, k, int(entry.bound)};
  if (!loads.zero) {
    const placed_tile placed = place_tile(state.ring, k);
    loads.word = placed.word;
    weights_command w;
    w.kind = uint<2>(int(resident(i) ? kFromResident : kFromMemory));
    w.compressed = uint<1>(packed ? 1 : 0);
    w.beats = uint<16>(packed ? entry.beats : uint32_t(k));
    if (resident(i))
      w.resident = uint<16>(i.word[15] + entry.before);
    else if (packed)
      w.beat_address = uint<60>(stream_address(i, a) + uint64_t(entry.before) * kPorts);
    else
      w.beat_address = uint<60>((a.image + i.word[1] + uint64_t(ct) * k * kPairs) >> 4);
    w.k = uint<13>(k);
    w.pop_weights_free = uint<4>(placed.freed);
    w.instruction = uint<16>(state.instruction);
    out.weights.write(w);
    expand_command e;
    e.k = uint<13>(k);
    e.word = uint<14>(placed.word);
    out.expand.write(e);
  }
  const uint64_t parameters = a.image + i.word[2] + uint64_t(ct) * tile_width(i) * 8;
  loads.slot = send_to_vector(out, state, load_of(kLoadParameters, parameters, ceil_div(tile_words(i, ct), 2)));
  return loads;
}

// The array's part of column tile ct in the n-th of its row blocks.
inline void send_product(const instruction& i, command_streams& out, fetch_state& state, int ct, const row_set& rows,
                         int n, const tile_loads& loads) {
  array_command m;
  m.w8 = uint<1>(i.flag(17) ? 1 : 0);
  m.unsigned_operand = uint<1>(i.flag(18) ? 1 : 0);
  m.weights = uint<14>(loads.word);
  m.operand = uint<15>(i.word[5] + rows.block[n] * i.word[6]);
  m.k = uint<13>(loads.zero ? 1 : loads.steps);
  m.words = uint<8>(tile_words(i, ct));
  m.pop_weights_ready = uint<1>(n == 0 && !loads.zero ? 1 : 0);
  m.push_weights_free = uint<1>(n == rows.count - 1 && !loads.zero ? 1 : 0);
  m.pop_data = uint<8>(ct == 0 ? i.wait() : 0);
  m.zero = uint<1>(loads.zero ? 1 : 0);
  m.bound = uint<2>(loads.bound);
  send_array(out, state, m);
}

// Column tile ct in the n-th of its row blocks. `push`: tokens that its vector command sends.
inline void send_tile(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state, int ct,
                      const row_set& rows, int n, const tile_loads& loads, int push) {
  const int rb = rows.block[n];
  const int channels = i.word[4];
  const int first = ct * tile_width(i);
  const int columns = tile_words(i, ct);
  const int destination = i.word[7];
  const bool to_io = destination == kToIo;
  const bool wide = to_io || destination == kToResidual;
  const uint32_t trace = to_io ? i.word[8] : i.word[13];
  send_product(i, out, state, ct, rows, n, loads);
  vector_command v = vector_of(kLinear, loads.slot);
  v.words = uint<11>(columns);
  v.row_block = uint<2>(rb);
  v.destination = uint<3>(destination);
  if (destination == kToActivation || branch(i)) v.address = uint<15>(i.word[8] + rb * i.word[9] + first);
  if (destination != kToActivation) v.channel = uint<11>(first);
  v.branch = uint<1>(branch(i) ? 1 : 0);
  v.table = uint<3>(i.word[12]);
  v.unsigned_output = uint<1>(i.flag(20) ? 1 : 0);
  v.head_width = uint<7>(i.word[14]);
  v.first_tile = uint<1>(ct == 0 ? 1 : 0);
  v.m = uint<8>(i.word[10]);
  v.s = uint<5>(i.word[11]);
  v.pop_parameters = uint<1>(n == 0 ? 1 : 0);
  v.push_parameters_free = uint<1>(n == rows.count - 1 ? 1 : 0);
  v.push_data = uint<3>(push);
  if (trace != kNoTrace) {
    v.tee = uint<1>(1);
    send_store(out, trace_address(a, trace, uint64_t(rb) * channels + first, wide), columns, wide);
  }
  send_vector(out, state, v);
}

// With `norm` a NORM follows the residual, row block by row block behind the last tile's, while the array goes on.
// False where the directory of its weights is at fault; nothing has been sent then.
template <class Port>
bool fetch_gemm(const instruction& i, const fetch_arguments& a, Port& port, command_streams& out, fetch_state& state,
                bool with_norm, const instruction& norm) {
  const row_set rows = rows_of(state, i.flag(19));
  const int tiles = tile_count(i);
  tile_entry entries[kMaxTiles] = {};
  if (compressed(i) && !read_directory(i, a, port, entries)) return false;
  int norm_slot = 0;
fetch_gemm_tiles:
  for (int ct = 0; ct < tiles; ++ct) {
    const tile_loads loads = send_tile_loads(i, a, out, state, ct, compressed(i) ? entries[ct] : tile_entry());
    const bool last = ct == tiles - 1;
    if (last && with_norm) norm_slot = send_norm_parameters(norm, a, out, state);
  fetch_gemm_blocks:
    for (int n = 0; n < rows.count; ++n) {
      send_tile(i, a, out, state, ct, rows, n, loads, last && i.signal() ? 1 : 0);
      if (last && with_norm) send_norm_block(norm, a, out, state, false, norm_slot, rows, n);
    }
  }
  return true;
}

// Brings a compressed matrix to the resident memory. False as for fetch_gemm.
template <class Port>
bool fetch_keep(const instruction& i, const fetch_arguments& a, Port& port, command_streams& out, fetch_state& state) {
  tile_entry entries[kMaxTiles] = {};
  if (!read_directory(i, a, port, entries)) return false;
fetch_keep_tiles:
  for (int ct = 0; ct < tile_count(i); ++ct) {
    if (entries[ct].kind != 0) {
      weights_command w;
      w.kind = uint<2>(int(kKeep));
      w.beats = uint<16>(entries[ct].beats);
      w.beat_address = uint<60>(stream_address(i, a) + uint64_t(entries[ct].before) * kPorts);
      w.resident = uint<16>(i.word[7] + entries[ct].before);
      w.instruction = uint<16>(state.instruction);
      out.weights.write(w);
    }
  }
  return true;
}

}  // namespace zq
