// SPDX-License-Identifier: Apache-2.0
// Fetch: reads the program, one 64-byte instruction at a time, checks it, and expands it into tile commands with
// their tokens (docs/program.md). Field checks keep every unit inside its memories whatever the program says.
#pragma once
#include "commands.hpp"
#include "vector_state.hpp"
#include "weights.hpp"

namespace zq {

enum opcode { kEnd, kRowsOp, kTableOp, kEmbedOp, kNormOp, kGemmOp, kAttentionOp, kGatherOp, kKeepOp, kOpcodes };

constexpr uint32_t kNoTrace = 0xFFFFFFFFu;

struct instruction {
  uint32_t word[16];
  int op() const { return word[0] & 255; }
  int wait() const { return (word[0] >> 8) & 255; }
  bool signal() const { return (word[0] >> 16) & 1; }
  bool flag(int bit) const { return (word[0] >> bit) & 1; }
};

struct fetch_arguments {
  uint64_t program;
  uint64_t image;
  uint64_t io;
  uint32_t instructions;
  uint32_t row_blocks;
};

struct fetch_result {
  uint32_t status;
  uint32_t detail;  // index of the instruction at fault
};

struct command_streams {
  hls::stream<load_command> load;
  hls::stream<weights_command> weights;
  hls::stream<expand_command> expand;
  hls::stream<array_command> array;
  hls::stream<vector_command> vector;
  hls::stream<store_command> store;
};

// Where tiles lie in the weight buffer: a ring, a tile in one piece, freed in order.
struct weight_ring {
  uint32_t first[kWeightTiles];  // first words of the tiles in it, the oldest at `oldest`
  uint32_t oldest;
  uint32_t tiles;
  uint32_t next;
};

// What fetch remembers while a program is expanded.
struct fetch_state {
  weight_ring ring;
  uint32_t vector_loads;
  uint32_t pushed;  // data tokens, by the commands so far
  uint32_t popped;
  uint32_t instruction;  // of the commands being sent
};

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

inline load_command load_of(int kind, uint64_t byte_address, int beats) {
  load_command c;
  c.kind = uint<3>(kind);
  c.beat_address = uint<60>(byte_address >> 4);
  c.beats = uint<16>(beats);
  return c;
}

struct placed_tile {
  int word;
  int freed;  // tiles before it that must have been freed meanwhile
};

inline placed_tile place_tile(weight_ring& ring, uint32_t k) {
  int freed = 0;
  bool placed = false;
place_tile:
  while (!placed) {
    const uint32_t oldest = ring.tiles > 0 ? ring.first[ring.oldest] : 0;
    if (ring.tiles == 0) ring.next = 0;
    const bool wrapped = ring.tiles > 0 && ring.next <= oldest;
    const uint32_t end = wrapped ? oldest : uint32_t(kWeightWords);
    if (ring.tiles < uint32_t(kWeightTiles)) {
      if (ring.next + k <= end) {
        placed = true;
      } else if (!wrapped && k <= oldest) {
        ring.next = 0;
        placed = true;
      }
    }
    if (!placed) {
      ring.oldest = (ring.oldest + 1) % kWeightTiles;
      --ring.tiles;
      ++freed;
    }
  }
  const uint32_t word = ring.next;
  ring.first[(ring.oldest + ring.tiles) % kWeightTiles] = word;
  ++ring.tiles;
  ring.next += k;
  return {int(word), freed};
}

// A matrix's column tiles as its instruction names them, and what the directory says of a compressed one.
struct tile_entry {
  uint32_t kind;    // 0 zero, 1 stored
  uint32_t beats;   // a port
  uint32_t before;  // beats a port before it
};

inline int tile_width(const instruction& i) { return i.flag(17) ? kColumns / 2 : kColumns; }
inline int tile_count(const instruction& i) { return ceil_div(int(i.word[4]), tile_width(i)); }
inline bool compressed(const instruction& i) { return i.op() == kKeepOp || i.flag(21); }
inline bool resident(const instruction& i) { return i.op() == kGemmOp && i.flag(22); }

// Beats behind the directory.
inline uint64_t stream_address(const instruction& i, const fetch_arguments& a) {
  return ((a.image + i.word[1]) >> 4) + tile_count(i);
}

inline bool valid_entry(const instruction& i, const tile_entry& e) {
  if (e.kind == 0) return e.beats == 0;
  const uint64_t end = uint64_t(e.before) + e.beats;
  const bool in_memory = resident(i) || end <= i.word[15];
  const uint64_t base = i.op() == kKeepOp ? i.word[7] : i.word[15];
  const bool in_resident = !(i.op() == kKeepOp || resident(i)) || base + end <= uint64_t(kResidentWords);
  return e.kind == 1 && e.beats >= 1 && e.beats <= 65535 && in_memory && in_resident;
}

// The directory of a compressed matrix; whether every entry lies within the matrix.
template <class Port>
bool read_directory(const instruction& i, const fetch_arguments& a, Port& port, tile_entry entries[kMaxTiles]) {
  const int tiles = tile_count(i);
  bool valid = true;
read_directory:
  for (int n = 0; n < tiles; ++n) {
#pragma HLS PIPELINE II = 1
    const beat b = port[((a.image + i.word[1]) >> 4) + n];
    entries[n].kind = word_of(b, 0);
    entries[n].beats = word_of(b, 1);
    entries[n].before = word_of(b, 2);
    valid = valid && valid_entry(i, entries[n]);
  }
  return valid;
}

inline void send_array(command_streams& out, fetch_state& state, const array_command& c) {
  state.popped += c.pop_data.to_uint64();
  out.array.write(c);
}

inline void send_vector(command_streams& out, fetch_state& state, const vector_command& c) {
  state.pushed += c.push_data.to_uint64();
  out.vector.write(c);
}

inline int send_to_vector(command_streams& out, fetch_state& state, load_command c) {
  const int slot = state.vector_loads % kSlots;
  c.slot = uint<1>(slot);
  c.pop_parameters_free = uint<2>(state.vector_loads >= kSlots ? 1 : 0);
  ++state.vector_loads;
  out.load.write(c);
  return slot;
}

inline vector_command vector_of(int kind, int slot) {
  vector_command c;
  c.kind = uint<4>(kind);
  c.slot = uint<1>(slot);
  return c;
}

inline void send_store(command_streams& out, uint64_t byte_address, int words, bool wide) {
  store_command c;
  c.beat_address = uint<60>(byte_address >> 4);
  c.words = uint<11>(words);
  c.wide = uint<1>(wide ? 1 : 0);
  out.store.write(c);
}

inline uint64_t trace_address(const fetch_arguments& a, uint32_t trace, uint64_t word, bool wide) {
  return a.io + trace + word * (wide ? 64 : 32);
}

// A program names image and io bytes in multiples of a beat.
inline bool aligned(uint32_t x) { return (x & 15) == 0; }
inline bool aligned_trace(uint32_t x) { return x == kNoTrace || aligned(x); }
inline bool within(uint32_t x, uint32_t lo, uint32_t hi) { return x >= lo && x <= hi; }
inline bool factor(uint32_t m, uint32_t s) { return m <= 255 && within(s, 1, 31); }
inline bool region(uint32_t base, uint32_t stride, uint32_t blocks, uint32_t words) {
  return base < kActivationWords && stride < kActivationWords && words <= kActivationWords &&
         base + stride * (blocks - 1) + words <= kActivationWords;
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
  const int slot = send_to_vector(out, state, load_of(kLoadTable, a.image + i.word[1], 16));
  vector_command v = vector_of(kCopyTable, slot);
  v.table = uint<2>(i.word[2]);
  v.words = uint<11>(32);
  v.pop_parameters = v.push_parameters_free = uint<1>(1);
  send_vector(out, state, v);
}

inline void fetch_embed(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const int width = i.word[3];
fetch_embed_blocks:
  for (int rb = 0; rb < int(a.row_blocks); ++rb) {
    load_command l = load_of(kLoadEmbedding, a.image + i.word[1], i.word[2] / 16);
    l.row_block = uint<2>(rb);
    l.field = uint<2>(i.word[4]);
    vector_command v = vector_of(kEmbed, send_to_vector(out, state, l));
    v.words = uint<11>(width);
    v.row_block = uint<2>(rb);
    v.first_tile = uint<1>(i.flag(17) ? 1 : 0);
    v.four_bit = uint<1>(i.flag(19) ? 1 : 0);
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
                            bool gather, int slot, int rb, int blocks) {
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
  v.pop_parameters = uint<1>(rb == 0 ? 1 : 0);
  v.push_parameters_free = uint<1>(rb == blocks - 1 ? 1 : 0);
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
  const int blocks = gather ? 1 : int(a.row_blocks);
  const int slot = send_norm_parameters(i, a, out, state);
fetch_norm_blocks:
  for (int rb = 0; rb < blocks; ++rb) send_norm_block(i, a, out, state, gather, slot, rb, blocks);
}

// What a column tile's commands name: words of the weight buffer, none where it is all zeros, and the parameter slot.
struct tile_loads {
  bool zero;
  int word;
  int slot;
};

inline int tile_words(const instruction& i, int ct) {
  const int left = int(i.word[4]) - ct * tile_width(i);
  return left < tile_width(i) ? left : tile_width(i);
}

// Weights and parameters of column tile ct.
inline tile_loads send_tile_loads(const instruction& i, const fetch_arguments& a, command_streams& out,
                                  fetch_state& state, int ct, const tile_entry& entry) {
  const int k = i.word[3];
  const bool packed = compressed(i);
  tile_loads loads = {packed && entry.kind == 0, 0, 0};
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

// Row block rb of column tile ct. `push`: tokens that its vector command sends.
inline void send_tile(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state, int ct,
                      int rb, int blocks, const tile_loads& loads, int push) {
  const int n = i.word[4];
  const int first = ct * tile_width(i);
  const int columns = tile_words(i, ct);
  const int destination = i.word[7];
  const bool to_io = destination == kToIo;
  const bool wide = to_io || destination == kToResidual;
  const uint32_t trace = to_io ? i.word[8] : i.word[13];
  array_command m;
  m.w8 = uint<1>(i.flag(17) ? 1 : 0);
  m.unsigned_operand = uint<1>(i.flag(18) ? 1 : 0);
  m.weights = uint<14>(loads.word);
  m.operand = uint<15>(i.word[5] + rb * i.word[6]);
  m.k = uint<13>(loads.zero ? 1 : int(i.word[3]));
  m.words = uint<8>(columns);
  m.pop_weights_ready = uint<1>(rb == 0 && !loads.zero ? 1 : 0);
  m.push_weights_free = uint<1>(rb == blocks - 1 && !loads.zero ? 1 : 0);
  m.pop_data = uint<8>(ct == 0 ? i.wait() : 0);
  m.zero = uint<1>(loads.zero ? 1 : 0);
  send_array(out, state, m);

  vector_command v = vector_of(kLinear, loads.slot);
  v.words = uint<11>(columns);
  v.row_block = uint<2>(rb);
  v.destination = uint<3>(destination);
  if (destination == kToActivation)
    v.address = uint<15>(i.word[8] + rb * i.word[9] + first);
  else
    v.channel = uint<11>(first);
  v.table = uint<2>(i.word[12]);
  v.unsigned_output = uint<1>(i.flag(20) ? 1 : 0);
  v.head_width = uint<7>(i.word[14]);
  v.first_tile = uint<1>(ct == 0 ? 1 : 0);
  v.m = uint<8>(i.word[10]);
  v.s = uint<5>(i.word[11]);
  v.pop_parameters = uint<1>(rb == 0 ? 1 : 0);
  v.push_parameters_free = uint<1>(rb == blocks - 1 ? 1 : 0);
  v.push_data = uint<3>(push);
  if (trace != kNoTrace) {
    v.tee = uint<1>(1);
    send_store(out, trace_address(a, trace, uint64_t(rb) * n + first, wide), columns, wide);
  }
  send_vector(out, state, v);
}

// With `norm` a NORM follows the residual, row block by row block behind the last tile's, while the array goes on.
// False where the directory of its weights is at fault; nothing has been sent then.
template <class Port>
bool fetch_gemm(const instruction& i, const fetch_arguments& a, Port& port, command_streams& out, fetch_state& state,
                bool with_norm, const instruction& norm) {
  const int blocks = i.flag(19) ? 1 : int(a.row_blocks);
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
    for (int rb = 0; rb < blocks; ++rb) {
      send_tile(i, a, out, state, ct, rb, blocks, loads, last && i.signal() ? 1 : 0);
      if (last && with_norm) send_norm_block(norm, a, out, state, false, norm_slot, rb, blocks);
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

// An attention on its way: items (head, row block), head outer. The oldest `pending` items that have their scores have
// no context yet; two at most, since P and the reciprocals have two slots.
struct attention_state {
  int items;    // whose scores have been sent
  int pending;
  uint32_t scored[kSlots];  // data tokens pushed up to the scores of item n, at n % 2
};

// Tokens still to pop so that `wanted` of them have been.
inline int tokens_up_to(const fetch_state& state, uint32_t wanted) {
  return wanted > state.popped ? int(wanted - state.popped) : 0;
}

// Scores of the next item, which need the first `ready` tokens.
inline void send_scores(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                        attention_state& at, uint32_t ready) {
  const int blocks = a.row_blocks;
  const int width = i.word[3];
  const int head = at.items / blocks;
  const int rb = at.items % blocks;
  const int slot = at.items % kSlots;
fetch_score_tiles:
  for (int first = 0; first < blocks; first += kKeyGroups) {
    const int groups = blocks - first < kKeyGroups ? blocks - first : kKeyGroups;
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
  v.words = uint<11>(blocks * kLanes);
  v.row_block = uint<2>(rb);
  v.channel = uint<11>(head * 2 * ceil_div(1 + width, 2));
  v.address = uint<15>(i.word[6] + slot * kRows);
  v.item_slot = uint<1>(slot);
  v.normalized = uint<1>(i.flag(17) ? 1 : 0);
  v.push_data = uint<3>(1);
  if (i.word[10] != kNoTrace) {
    v.tee = uint<1>(1);
    const uint64_t word = (uint64_t(head) * blocks + rb) * blocks * kLanes;
    send_store(out, trace_address(a, i.word[10], word, false), blocks * kLanes, false);
  }
  send_vector(out, state, v);
  at.scored[slot] = state.pushed;
  ++at.items;
  ++at.pending;
}

// Context of the oldest item that has its scores.
inline void send_context(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                         attention_state& at, bool last) {
  const int blocks = a.row_blocks;
  const int heads = i.word[2];
  const int width = i.word[3];
  const int item = at.items - at.pending;
  const int head = item / blocks;
  const int rb = item % blocks;
  const int slot = item % kSlots;
  array_command m;
  m.w8 = m.unsigned_operand = m.keys_values = uint<1>(1);
  m.operand = uint<15>(i.word[6] + slot * kRows);
  m.key_value = uint<13>(kValueBase + head * kRows);
  m.k = uint<13>(blocks * kLanes);
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
  v.push_data = uint<3>(last && i.signal() ? blocks : 0);
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
// group's items, as many have run after step s of its S tiles as s + 1 is of S. False as for fetch_gemm, with the
// instruction at fault in state.
template <class Port>
bool fetch_attention(const instruction& i, const held_gemms& held, const fetch_arguments& a, Port& port,
                     command_streams& out, fetch_state& state) {
  const uint32_t own = state.instruction;
  const int blocks = a.row_blocks;
  const int heads = i.word[2];
  const int width = i.word[3];
  const int beats = heads * ceil_div(1 + width, 2);
  const int group_heads = held.count > 0 ? kColumns / width : heads;
  const int groups = ceil_div(heads, group_heads);
  tile_entry entries[3][kMaxTiles] = {};
fetch_attention_directories:
  for (int g = 0; g < held.count; ++g) {
    state.instruction = held.index[g];
    if (compressed(held.gemm[g]) && !read_directory(held.gemm[g], a, port, entries[g])) return false;
  }
  state.instruction = own;
  const int slot = send_to_vector(out, state, load_of(kLoadParameters, a.image + i.word[1], beats));
  vector_command copy = vector_of(kCopyHeads, slot);
  copy.words = uint<11>(2 * beats);
  copy.pop_parameters = copy.push_parameters_free = uint<1>(1);
  send_vector(out, state, copy);
  attention_state at = {0, 0, {0, 0}};
  tile_loads loads = {false, 0, 0};
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
      const int rb = step % blocks;
      const instruction& gemm = held.gemm[g];
      state.instruction = held.index[g];
      if (rb == 0)
        loads = send_tile_loads(gemm, a, out, state, group, compressed(gemm) ? entries[g][group] : tile_entry());
      // The scores of the group wait for all of it.
      send_tile(gemm, a, out, state, group, rb, blocks, loads, step == steps - 1 ? 1 : 0);
      state.instruction = own;
      const int due = before + (until - before) * (step + 1) / steps;
      if (due - at.items >= kSlots || step == steps - 1) send_hidden_items(i, a, out, state, at, due, ready);
    }
    send_items(i, a, out, state, at, until, ready);
  }
fetch_attention_end:
  while (at.pending > 0) send_context(i, a, out, state, at, at.pending == 1);
  return true;
}

inline bool valid(const instruction& i, uint32_t row_blocks) {
  const uint32_t* w = i.word;
  switch (i.op()) {
    case kRowsOp: return aligned(w[1]);
    case kTableOp: return aligned(w[1]) && w[2] < uint32_t(kTables);
    case kEmbedOp:
      return aligned(w[1]) && aligned(w[2]) && within(w[3], 1, kMaxWidth) && w[4] < 3 && aligned_trace(w[5]) &&
             w[2] == ((i.flag(19) ? (w[3] + 31) / 32 : (w[3] + 15) / 16) + 1) * 16 && (!i.flag(19) || w[3] % 32 == 0);
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
      return (!packed || !i.flag(17)) && (packed || !i.flag(22)) && (!i.flag(23) || !i.flag(17)) && aligned(w[1]) &&
             aligned(w[2]) && within(w[3], 1, kMaxEntries) && w[7] <= kToIo && within(w[4], 1, limit) &&
             region(w[5], w[6], blocks, w[3]) && w[12] < uint32_t(kTables) && aligned_trace(w[13]) &&
             (w[7] != kToActivation || region(w[8], w[9], blocks, w[4])) &&
             (w[7] != kToResidual || factor(w[10], w[11])) && (w[7] != kToIo || aligned(w[8])) &&
             (w[7] != kToValues || (head && w[4] % w[14] == 0 && w[4] / w[14] <= uint32_t(kMaxHeads)));
    }
    case kAttentionOp:
      return aligned(w[1]) && (w[3] == 32 || w[3] == 64) && within(w[2], 1, kMaxHeads) && w[2] * w[3] <= uint32_t(kMaxWidth) &&
             region(w[4], w[5], row_blocks, w[2] * w[3]) && region(w[6], kRows, 2, kRows) &&
             region(w[7], w[8], row_blocks, w[2] * w[3]) && aligned_trace(w[9]) && aligned_trace(w[10]);
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
// for the ATTENTION that follows them.
template <class Port>
fetch_result fetch_program(const fetch_arguments& a, Port& port, command_streams& out) {
  fetch_result result = {kOk, 0};
  fetch_state state = {};
  if (a.row_blocks < 1 || a.row_blocks > uint32_t(kRowBlocks)) result.status = kBadField;
  bool running = result.status == kOk;
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
      running = result.status == kOk && i.op() != kEnd;
      bool sound = true;
      const bool joined = waiting && running && i.op() == kNormOp && gemm.word[7] == kToResidual;
      if (waiting) {
        state.instruction = uint32_t(n - 1);
        sound = fetch_gemm(gemm, a, port, out, state, joined, i);
      }
      waiting = sound && running && i.op() == kGemmOp && !grouped;
      if (waiting) gemm = i;
      if (sound && running && !joined) {
        state.instruction = uint32_t(n);
        switch (i.op()) {
          case kRowsOp: fetch_rows(i, a, out, state); break;
          case kTableOp: fetch_table(i, a, out, state); break;
          case kEmbedOp: fetch_embed(i, a, out, state); break;
          case kNormOp:
          case kGatherOp: fetch_norm(i, a, out, state, i.op() == kGatherOp); break;
          case kKeepOp: sound = fetch_keep(i, a, port, out, state); break;
          case kAttentionOp:
            sound = fetch_attention(i, held, a, port, out, state);
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
      if (!sound) {
        result.status = kBadDirectory;
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
