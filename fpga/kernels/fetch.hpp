// SPDX-License-Identifier: Apache-2.0
// Fetch: reads the program, one 64-byte instruction at a time, checks it, and expands it into tile commands with
// their tokens (docs/program.md). Field checks keep every unit inside its memories whatever the program says.
#pragma once
#include "commands.hpp"
#include "vector_state.hpp"

namespace zq {

enum opcode { kEnd, kRowsOp, kTableOp, kEmbedOp, kNormOp, kGemmOp, kAttentionOp, kGatherOp, kOpcodes };
enum status_code { kOk = 0, kBadOpcode = 1, kBadField = 2, kBusError = 3, kDeadlock = 4, kWidthFault = 5 };

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
  hls::stream<array_command> array;
  hls::stream<vector_command> vector;
  hls::stream<store_command> store;
};

// Slots and credits while a program is expanded.
struct fetch_state {
  uint32_t weight_loads;
  uint32_t vector_loads;
};

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

inline load_command load_of(int kind, uint64_t byte_address, int beats) {
  load_command c;
  c.kind = uint<3>(kind);
  c.beat_address = uint<60>(byte_address >> 4);
  c.beats = uint<16>(beats);
  return c;
}

inline int send_weights(command_streams& out, fetch_state& state, uint64_t address, int k) {
  load_command c = load_of(kLoadWeights, address, k);
  const int slot = state.weight_loads % kSlots;
  c.slot = uint<1>(slot);
  c.pop_weights_free = uint<2>(state.weight_loads >= kSlots ? 1 : 0);
  ++state.weight_loads;
  out.load.write(c);
  return slot;
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
  c.kind = uint<3>(kind);
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
  out.vector.write(v);
}

inline void fetch_table(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const int slot = send_to_vector(out, state, load_of(kLoadTable, a.image + i.word[1], 16));
  vector_command v = vector_of(kCopyTable, slot);
  v.table = uint<2>(i.word[2]);
  v.words = uint<11>(32);
  v.pop_parameters = v.push_parameters_free = uint<1>(1);
  out.vector.write(v);
}

inline void fetch_embed(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const int width = i.word[3];
fetch_embed_blocks:
  for (int rb = 0; rb < int(a.row_blocks); ++rb) {
    load_command l = load_of(kLoadEmbedding, a.image + i.word[1], i.word[2] / 16);
    l.row_block = uint<2>(rb);
    l.field = uint<2>(i.word[4]);
    l.four_bit = uint<1>(i.flag(19) ? 1 : 0);
    vector_command v = vector_of(kEmbed, send_to_vector(out, state, l));
    v.words = uint<11>(width);
    v.row_block = uint<2>(rb);
    v.first_tile = uint<1>(i.flag(17) ? 1 : 0);
    v.pop_parameters = v.push_parameters_free = uint<1>(1);
    if (i.word[5] != kNoTrace) {
      v.tee = uint<1>(1);
      send_store(out, trace_address(a, i.word[5], uint64_t(rb) * width, true), width, true);
    }
    out.vector.write(v);
  }
}

inline int send_norm_parameters(const instruction& i, const fetch_arguments& a, command_streams& out,
                                fetch_state& state) {
  return send_to_vector(out, state, load_of(kLoadParameters, a.image + i.word[1], ceil_div(int(i.word[3]), 2)));
}

inline void send_norm_block(const instruction& i, const fetch_arguments& a, command_streams& out, bool gather, int slot,
                            int rb, int blocks) {
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
  out.vector.write(v);
}

inline void fetch_norm(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                       bool gather) {
  const int blocks = gather ? 1 : int(a.row_blocks);
  const int slot = send_norm_parameters(i, a, out, state);
fetch_norm_blocks:
  for (int rb = 0; rb < blocks; ++rb) send_norm_block(i, a, out, gather, slot, rb, blocks);
}

// With `norm` a NORM follows the residual, row block by row block behind the last tile's, while the array goes on.
inline void fetch_gemm(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state,
                       bool with_norm, const instruction& norm) {
  const bool w8 = i.flag(17);
  const int k = i.word[3];
  const int n = i.word[4];
  const int blocks = i.flag(19) ? 1 : int(a.row_blocks);
  const int tile = w8 ? kColumns / 2 : kColumns;
  const int tiles = ceil_div(n, tile);
  const int destination = i.word[7];
  const bool to_io = destination == kToIo;
  const bool wide = to_io || destination == kToResidual;
  const uint32_t trace = to_io ? i.word[8] : i.word[13];
  int norm_slot = 0;
fetch_gemm_tiles:
  for (int ct = 0; ct < tiles; ++ct) {
    const int first = ct * tile;
    const int columns = n - first < tile ? n - first : tile;
    const int slot = send_weights(out, state, a.image + i.word[1] + uint64_t(ct) * k * kPairs, k);
    const int parameter_slot =
        send_to_vector(out, state, load_of(kLoadParameters, a.image + i.word[2] + uint64_t(first) * 8, ceil_div(columns, 2)));
    const bool last = ct == tiles - 1;
    if (last && with_norm) norm_slot = send_norm_parameters(norm, a, out, state);
  fetch_gemm_blocks:
    for (int rb = 0; rb < blocks; ++rb) {
      array_command m;
      m.w8 = uint<1>(w8 ? 1 : 0);
      m.unsigned_operand = uint<1>(i.flag(18) ? 1 : 0);
      m.slot = uint<1>(slot);
      m.operand = uint<15>(i.word[5] + rb * i.word[6]);
      m.k = uint<13>(k);
      m.words = uint<8>(columns);
      m.pop_weights_ready = uint<1>(rb == 0 ? 1 : 0);
      m.push_weights_free = uint<1>(rb == blocks - 1 ? 1 : 0);
      m.pop_data = uint<8>(ct == 0 ? i.wait() : 0);
      out.array.write(m);

      vector_command v = vector_of(kLinear, parameter_slot);
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
      v.push_data = uint<3>(last && i.signal() ? 1 : 0);
      if (trace != kNoTrace) {
        v.tee = uint<1>(1);
        send_store(out, trace_address(a, trace, uint64_t(rb) * n + first, wide), columns, wide);
      }
      out.vector.write(v);
      if (last && with_norm) send_norm_block(norm, a, out, false, norm_slot, rb, blocks);
    }
  }
}

// Item (head, row block): the scores of one run ahead of the context of the one before.
struct attention_item {
  int head;
  int rb;
  int slot;            // of P and the reciprocals
  int parameter_slot;  // of the head
};

inline void fetch_scores(const instruction& i, const fetch_arguments& a, command_streams& out, const attention_item& item,
                         int wait) {
  const int blocks = a.row_blocks;
  const int width = i.word[3];
fetch_score_tiles:
  for (int kt = 0; kt < ceil_div(blocks, kGroups); ++kt) {
    const int groups = blocks - kt * kGroups < kGroups ? blocks - kt * kGroups : kGroups;
    array_command m;
    m.w8 = m.keys_values = uint<1>(1);
    m.operand = uint<15>(i.word[4] + item.rb * i.word[5] + item.head * width);
    m.key_value = uint<13>(kt * kMaxWidth + item.head * width);
    m.k = uint<13>(width);
    m.words = uint<8>(groups * kLanes);
    m.pop_data = uint<8>(kt == 0 ? wait : 0);
    out.array.write(m);
  }
  vector_command v = vector_of(kScores, item.parameter_slot);
  v.words = uint<11>(blocks * kLanes);
  v.row_block = uint<2>(item.rb);
  v.address = uint<15>(i.word[6] + item.slot * kRows);
  v.item_slot = uint<1>(item.slot);
  v.normalized = uint<1>(i.flag(17) ? 1 : 0);
  v.pop_parameters = uint<1>(item.rb == 0 ? 1 : 0);
  v.push_data = uint<3>(1);
  if (i.word[10] != kNoTrace) {
    v.tee = uint<1>(1);
    const uint64_t word = (uint64_t(item.head) * blocks + item.rb) * blocks * kLanes;
    send_store(out, trace_address(a, i.word[10], word, false), blocks * kLanes, false);
  }
  out.vector.write(v);
}

inline void fetch_context(const instruction& i, const fetch_arguments& a, command_streams& out,
                          const attention_item& item, bool last) {
  const int blocks = a.row_blocks;
  const int heads = i.word[2];
  const int width = i.word[3];
  array_command m;
  m.w8 = m.unsigned_operand = m.keys_values = uint<1>(1);
  m.operand = uint<15>(i.word[6] + item.slot * kRows);
  m.key_value = uint<13>(kValueBase + item.head * kRows);
  m.k = uint<13>(blocks * kLanes);
  m.words = uint<8>(width);
  m.pop_data = uint<8>(1);
  out.array.write(m);
  vector_command v = vector_of(kContext, item.parameter_slot);
  v.words = uint<11>(width);
  v.row_block = uint<2>(item.rb);
  v.address = uint<15>(i.word[7] + item.rb * i.word[8] + item.head * width);
  v.item_slot = uint<1>(item.slot);
  v.push_parameters_free = uint<1>(item.rb == blocks - 1 ? 1 : 0);
  // All at the end: a token in between would stand for numerators that are not there yet.
  v.push_data = uint<3>(last && i.signal() ? int(a.row_blocks) : 0);
  if (i.word[9] != kNoTrace) {
    v.tee = uint<1>(1);
    const uint64_t word = (uint64_t(item.rb) * heads + item.head) * width;
    send_store(out, trace_address(a, i.word[9], word, false), width, false);
  }
  out.vector.write(v);
}

inline void fetch_attention(const instruction& i, const fetch_arguments& a, command_streams& out, fetch_state& state) {
  const int blocks = a.row_blocks;
  const int width = i.word[3];
  const int items = int(i.word[2]) * blocks;
  const int head_beats = ceil_div(1 + width, 2);
  int slot_of_head[2] = {0, 0};
fetch_attention_items:
  for (int n = 0; n <= items; ++n) {
    if (n < items) {
      attention_item item = {n / blocks, n % blocks, n % kSlots, 0};
      if (item.rb == 0)
        slot_of_head[item.head % 2] = send_to_vector(
            out, state, load_of(kLoadParameters, a.image + i.word[1] + uint64_t(item.head) * head_beats * 16, head_beats));
      item.parameter_slot = slot_of_head[item.head % 2];
      fetch_scores(i, a, out, item, n == 0 ? i.wait() * blocks : 0);
    }
    if (n > 0) {
      const int m = n - 1;
      const attention_item item = {m / blocks, m % blocks, m % kSlots, slot_of_head[(m / blocks) % 2]};
      fetch_context(i, a, out, item, m == items - 1);
    }
  }
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
    case kGemmOp: {
      const uint32_t blocks = i.flag(19) ? 1 : row_blocks;
      const uint32_t limit = w[7] == kToActivation ? uint32_t(kMaxEntries) : (w[7] == kToIo ? uint32_t(kMaxLabels) : uint32_t(kMaxWidth));
      const bool head = w[14] == 32 || w[14] == 64;
      return aligned(w[1]) && aligned(w[2]) && within(w[3], 1, kMaxEntries) && w[7] <= kToIo && within(w[4], 1, limit) &&
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

// At the end load takes back the credits still out, so that every stream is empty between programs.
inline void fetch_end(command_streams& out, const fetch_state& state) {
  load_command drain = load_of(kLoadDrain, 0, 0);
  drain.pop_weights_free = uint<2>(state.weight_loads < kSlots ? state.weight_loads : kSlots);
  drain.pop_parameters_free = uint<2>(state.vector_loads < kSlots ? state.vector_loads : kSlots);
  out.load.write(drain);
  store_command end;
  end.end = uint<1>(1);
  out.store.write(end);
}

inline uint32_t status_of(const instruction& i, uint32_t row_blocks) {
  if (i.op() >= kOpcodes) return kBadOpcode;
  return valid(i, row_blocks) ? kOk : kBadField;
}

// A GEMM waits until the instruction after it is known: a NORM there joins one to the residual.
template <class Port>
fetch_result fetch_program(const fetch_arguments& a, Port& port, command_streams& out) {
  fetch_result result = {kOk, 0};
  fetch_state state = {0, 0};
  if (a.row_blocks < 1 || a.row_blocks > uint32_t(kRowBlocks)) result.status = kBadField;
  bool running = result.status == kOk;
  bool waiting = false;
  instruction gemm = {};
fetch_program:
  for (uint64_t n = 0; n <= a.instructions; ++n) {
    if (running) {
      instruction i = {};  // past the last one: END
      if (n < a.instructions) {
        i = read_instruction(port, a.program + n * kInstructionBeats * 16);
        result.status = status_of(i, a.row_blocks);
        result.detail = uint32_t(n);
      }
      running = result.status == kOk && i.op() != kEnd;
      const bool joined = waiting && running && i.op() == kNormOp && gemm.word[7] == kToResidual;
      if (waiting) fetch_gemm(gemm, a, out, state, joined, i);
      waiting = running && i.op() == kGemmOp;
      if (waiting) gemm = i;
      if (running && !joined) {
        switch (i.op()) {
          case kRowsOp: fetch_rows(i, a, out, state); break;
          case kTableOp: fetch_table(i, a, out, state); break;
          case kEmbedOp: fetch_embed(i, a, out, state); break;
          case kAttentionOp: fetch_attention(i, a, out, state); break;
          case kNormOp:
          case kGatherOp: fetch_norm(i, a, out, state, i.op() == kGatherOp); break;
          default: break;
        }
      }
    }
  }
  fetch_end(out, state);
  return result;
}

}  // namespace zq
