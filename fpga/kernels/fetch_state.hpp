// SPDX-License-Identifier: Apache-2.0
// What fetch reads, what it sends, and what it remembers meanwhile.
#pragma once
#include "commands.hpp"
#include "weights.hpp"

namespace zq {

enum opcode {
  kEnd,
  kRowsOp,
  kTableOp,
  kEmbedOp,
  kNormOp,
  kGemmOp,
  kAttentionOp,
  kGatherOp,
  kKeepOp,
  kExitOp,
  kRefillOp,
  kLoopOp,
  kOpcodes
};

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

// Row blocks that an instruction runs over, in order.
struct row_set {
  int block[kRowBlocks];
  int count;
  int last() const { return block[count - 1]; }
};

inline row_set rows_of_mask(uint32_t mask) {
  row_set rows = {{0, 0, 0, 0}, 0};
rows_of_mask:
  for (int rb = 0; rb < kRowBlocks; ++rb) {
#pragma HLS UNROLL
    if (((mask >> rb) & 1) == 1) rows.block[rows.count++] = rb;
  }
  return rows;
}

// Where a program is in its queue of sentences (fetch_queue.hpp).
struct queue_state {
  bool begun;           // it has taken one
  uint32_t head;        // the next entry
  uint32_t steps;       // LOOPs so far
  uint32_t old;         // row blocks that lived when the last were taken, a bit each
  uint32_t fresh;       // and those that these took
  uint32_t section_end; // index of the instruction at which the fresh ones join the others
};

// What fetch remembers while a program is expanded.
struct fetch_state {
  weight_ring ring;
  uint32_t vector_loads;
  uint32_t pushed;  // data tokens, by the commands so far
  uint32_t popped;
  uint32_t instruction;  // of the commands being sent
  row_set live;          // row blocks in which a sentence is left
  uint32_t owed;         // data tokens that the array's next command takes before it begins
  queue_state queue;
};

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

inline load_command load_of(int kind, uint64_t byte_address, int beats) {
  load_command c;
  c.kind = uint<3>(kind);
  c.beat_address = uint<60>(byte_address >> 4);
  c.beats = uint<16>(beats);
  return c;
}

inline void send_array(command_streams& out, fetch_state& state, array_command c) {
  c.pop_data = uint<8>(c.pop_data + uint<8>(state.owed));
  state.owed = 0;
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

}  // namespace zq
