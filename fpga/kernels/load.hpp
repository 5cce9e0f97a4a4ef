// SPDX-License-Identifier: Apache-2.0
// Load: brings one slot of parameters, or the embedding rows of one row block, one command a call. Bytes are moved,
// never changed.
//
// Parameters: two 64-bit words a beat.
// Rows: header beats go to the parameter slot for the vector unit; token, position and type stay here for the gathers.
// Embedding rows: neighbours that have the same row get it from one read, rows that follow each other are one burst.
#pragma once
#include "commands.hpp"
#include "trip.hpp"

namespace zq {

// Row fields of the pass, kept between commands: [word, position, type][row].
struct load_state {
  uint<32> field[3][kRows];
};

// A row's values, 16 a word, then the word with its m and s.
using embedding_word = lanes<byte_t, 16>;
constexpr int kEmbeddingWords = kEmbeddingBeats + 1;

template <class Port>
void load_words(const load_command& c, loop name, Port& port, uint<64> parameters[kSlots][kParameterWords],
                load_state& state) {
  const int beats = c.beats.to_int();
  const int slot = c.slot.to_int();
  const uint64_t base = c.beat_address.to_uint64();
  const bool rows = c.kind == kLoadRows;
  const int first = c.row_block.to_int() * kLanes;
load_words:
  for (int i = 0; i < beats; ++i) {
#pragma HLS PIPELINE II = 1
    trip(name);
    const beat b = port[base + i];
    parameters[slot][2 * i] = b.half[0];
    parameters[slot][2 * i + 1] = b.half[1];
    if (rows && i >= 2) {
      state.field[0][first + i - 2] = uint<32>(b.half[0] & uint<64>(0xFFFFFFFFu));
      state.field[1][first + i - 2] = uint<32>((b.half[0] >> 32) & uint<64>(0xFFFF));
      state.field[2][first + i - 2] = uint<32>((b.half[0] >> 48) & uint<64>(0xFFFF));
    }
  }
}

// Bit t of `same`: row t has the table row of row t - 1; of `next`: the one after it.
struct neighbours {
  uint32_t same;
  uint32_t next;
};

inline neighbours find_neighbours(const load_command& c, const load_state& state) {
  neighbours n = {0, 0};
  uint<32> before = uint<32>(0);
load_neighbours:
  for (int t = 0; t < kLanes; ++t) {
#pragma HLS PIPELINE II = 1
    trip(loop::load_neighbours);
    const uint<32> row = state.field[c.field.to_int()][c.row_block.to_int() * kLanes + t];
    if (t > 0 && row == before) n.same |= 1u << t;
    if (t > 0 && row == before + uint<1>(1)) n.next |= 1u << t;
    before = row;
  }
  return n;
}

template <class Port>
void load_embedding(const load_command& c, Port& port,
                    embedding_word embedding[kSlots][kLanes][kEmbeddingWords], const load_state& state) {
  const int beats = c.beats.to_int();  // a row, its scale beat included
  const int slot = c.slot.to_int();
  const neighbours n = find_neighbours(c, state);
  int first = 0;
load_embedding_runs:
  while (first < kLanes) {
    const bool following = first + 1 < kLanes && ((n.next >> (first + 1)) & 1) == 1;
    const uint32_t joined = following ? n.next : n.same;
    int end = first + 1;
  load_run_end:
    for (int t = 1; t < kLanes; ++t) {
#pragma HLS UNROLL
      if (t == end && ((joined >> t) & 1) == 1) ++end;
    }
    const uint64_t row = state.field[c.field.to_int()][c.row_block.to_int() * kLanes + first].to_uint64();
    const uint64_t base = c.beat_address.to_uint64() + row * beats;
    const int count = following ? (end - first) * beats : beats;
    int lane = first;
    int i = 0;
  load_embedding_beats:
    for (int n = 0; n < count; ++n) {
#pragma HLS PIPELINE II = 1
      trip(loop::load_embedding);
      const beat b = port[base + n];
      embedding_word word;
    load_embedding_bytes:
      for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
        word[j] = byte_of(b, j);
      }
    load_embedding_lanes:
      for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
        if (following ? t == lane : (t >= first && t < end)) embedding[slot][t][i] = word;
      }
      if (++i == beats) {
        i = 0;
        ++lane;
      }
    }
    first = end;
  }
}

template <class Port>
void load_unit(hls::stream<load_command>& commands, Port& port, hls::stream<token>& parameters_free,
               hls::stream<token>& parameters_ready, uint<64> parameters[kSlots][kParameterWords],
               embedding_word embedding[kSlots][kLanes][kEmbeddingWords], load_state& state) {
  const load_command c = commands.read();
load_pop_parameters:
  for (int i = 0; i < c.pop_parameters_free.to_int(); ++i) parameters_free.read();
  switch (c.kind.to_int()) {
    case kLoadParameters: load_words(c, loop::load_parameters, port, parameters, state); break;
    case kLoadTable: load_words(c, loop::load_table, port, parameters, state); break;
    case kLoadRows: load_words(c, loop::load_rows, port, parameters, state); break;
    case kLoadEmbedding: load_embedding(c, port, embedding, state); break;
    default: break;
  }
  if (c.kind != kLoadDrain) parameters_ready.write(token(1));
}

}  // namespace zq
