// SPDX-License-Identifier: Apache-2.0
// Load: moves one tile of weights, one slot of parameters, or the embedding rows of one row block from memory
// to the buffers, one command a call. Bytes are moved, never changed, but for 4-bit embeddings: q = 16 * nibble (Q6).
//
// Weights: port p brings bytes 16p .. 16p + 15 of every array word, all ports in step.
// Parameters: two 64-bit words a beat.
// Rows: header beats go to the parameter slot for the vector unit; token, position and type stay here for the gathers.
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

// Beat of port p; p is a constant once the loop over ports is unrolled.
template <class Port>
beat read_port(int p, uint64_t index, Port& p0, Port& p1, Port& p2, Port& p3, Port& p4, Port& p5) {
#pragma HLS INLINE
  switch (p) {
    case 0: return p0[index];
    case 1: return p1[index];
    case 2: return p2[index];
    case 3: return p3[index];
    case 4: return p4[index];
    default: return p5[index];
  }
}

template <class Port>
void load_weights(const load_command& c, Port& p0, Port& p1, Port& p2, Port& p3, Port& p4, Port& p5,
                  weight_word weights[kSlots][kMaxEntries]) {
  const int k = c.beats.to_int();
  const int slot = c.slot.to_int();
  const uint64_t base = c.beat_address.to_uint64();
load_weights:
  for (int i = 0; i < k; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::load_weights);
    weight_word word;
  load_weights_ports:
    for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
      const beat b = read_port(p, base + uint64_t(p) * k + i, p0, p1, p2, p3, p4, p5);
    load_weights_bytes:
      for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
        word[16 * p + j] = byte_of(b, j);
      }
    }
    weights[slot][i] = word;
  }
}

template <class Port>
void load_words(const load_command& c, loop name, Port& port, uint<64> parameters[kSlots][kParameterWords],
                load_state& state) {
  const int beats = c.beats.to_int();
  const int slot = c.slot.to_int();
  const uint64_t base = c.beat_address.to_uint64();
  const bool rows = c.kind == kLoadRows;
load_words:
  for (int i = 0; i < beats; ++i) {
#pragma HLS PIPELINE II = 1
    trip(name);
    const beat b = port[base + i];
    parameters[slot][2 * i] = b.half[0];
    parameters[slot][2 * i + 1] = b.half[1];
    if (rows && i >= 2) {
      state.field[0][i - 2] = uint<32>(b.half[0] & uint<64>(0xFFFFFFFFu));
      state.field[1][i - 2] = uint<32>((b.half[0] >> 32) & uint<64>(0xFFFF));
      state.field[2][i - 2] = uint<32>((b.half[0] >> 48) & uint<64>(0xFFFF));
    }
  }
}

template <class Port>
void load_embedding(const load_command& c, Port& port,
                    embedding_word embedding[kSlots][kLanes][kEmbeddingWords], const load_state& state) {
  const int beats = c.beats.to_int();  // a row, its scale beat included
  const int slot = c.slot.to_int();
  const bool four_bit = c.four_bit == 1;
load_embedding_rows:
  for (int t = 0; t < kLanes; ++t) {
    const uint64_t row = state.field[c.field.to_int()][c.row_block.to_int() * kLanes + t].to_uint64();
    const uint64_t base = c.beat_address.to_uint64() + row * beats;
  load_embedding_beats:
    for (int i = 0; i < beats; ++i) {
#pragma HLS PIPELINE II = 1
      trip(loop::load_embedding);
      const beat b = port[base + i];
      const bool expand = four_bit && i < beats - 1;
      embedding_word first;
      embedding_word second;
    load_embedding_bytes:
      for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
        const byte_t low = byte_of(b, j / 2);
        const byte_t high = byte_of(b, 8 + j / 2);
        const byte_t low_nibble = j % 2 == 0 ? byte_t((low & byte_t(15)) << 4) : byte_t(low & byte_t(240));
        const byte_t high_nibble = j % 2 == 0 ? byte_t((high & byte_t(15)) << 4) : byte_t(high & byte_t(240));
        first[j] = expand ? low_nibble : byte_of(b, j);
        second[j] = high_nibble;
      }
      embedding[slot][t][four_bit ? 2 * i : i] = first;
      if (expand) embedding[slot][t][2 * i + 1] = second;
    }
  }
}

template <class Port>
void load_unit(hls::stream<load_command>& commands, Port& p0, Port& p1, Port& p2, Port& p3, Port& p4, Port& p5,
               hls::stream<token>& weights_free, hls::stream<token>& weights_ready,
               hls::stream<token>& parameters_free, hls::stream<token>& parameters_ready,
               weight_word weights[kSlots][kMaxEntries], uint<64> parameters[kSlots][kParameterWords],
               embedding_word embedding[kSlots][kLanes][kEmbeddingWords], load_state& state) {
  const load_command c = commands.read();
load_pop_weights:
  for (int i = 0; i < c.pop_weights_free.to_int(); ++i) weights_free.read();
load_pop_parameters:
  for (int i = 0; i < c.pop_parameters_free.to_int(); ++i) parameters_free.read();
  switch (c.kind.to_int()) {
    case kLoadWeights: load_weights(c, p0, p1, p2, p3, p4, p5, weights); break;
    case kLoadParameters: load_words(c, loop::load_parameters, p0, parameters, state); break;
    case kLoadTable: load_words(c, loop::load_table, p0, parameters, state); break;
    case kLoadRows: load_words(c, loop::load_rows, p0, parameters, state); break;
    case kLoadEmbedding: load_embedding(c, p0, embedding, state); break;
    default: break;
  }
  if (c.kind == kLoadWeights)
    weights_ready.write(token(1));
  else if (c.kind != kLoadDrain)
    parameters_ready.write(token(1));
}

}  // namespace zq
