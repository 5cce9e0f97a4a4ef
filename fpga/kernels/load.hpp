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

struct embedding_slot {
  lanes<byte_t, 16> value[kLanes][kEmbeddingBeats];
  lanes<byte_t, 2> scale[kLanes];  // m, s of the row
};

template <class Port>
void load_weights(const load_command& c, Port ports[kPorts], weight_word weights[kSlots][kMaxEntries]) {
  const int k = c.beats.to_int();
  const uint64_t base = c.beat_address.to_uint64();
load_weights:
  for (int i = 0; i < k; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::load_weights);
  load_weights_ports:
    for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
      const beat b = ports[p][base + uint64_t(p) * k + i];
    load_weights_bytes:
      for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
        weights[c.slot.to_int()][i][16 * p + j] = byte_of(b, j);
      }
    }
  }
}

template <class Port>
void load_words(const load_command& c, loop name, Port port, uint<64> parameters[kSlots][kParameterWords]) {
  const int beats = c.beats.to_int();
  const uint64_t base = c.beat_address.to_uint64();
load_words:
  for (int i = 0; i < beats; ++i) {
#pragma HLS PIPELINE II = 1
    trip(name);
    const beat b = port[base + i];
    parameters[c.slot.to_int()][2 * i] = b.half[0];
    parameters[c.slot.to_int()][2 * i + 1] = b.half[1];
  }
}

template <class Port>
void load_rows(const load_command& c, Port port, uint<64> parameters[kSlots][kParameterWords], load_state& state) {
  const int beats = c.beats.to_int();
  const uint64_t base = c.beat_address.to_uint64();
load_rows:
  for (int i = 0; i < beats; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::load_rows);
    const beat b = port[base + i];
    parameters[c.slot.to_int()][2 * i] = b.half[0];
    parameters[c.slot.to_int()][2 * i + 1] = b.half[1];
    if (i >= 2) {
      state.field[0][i - 2] = uint<32>(b.half[0] & uint<64>(0xFFFFFFFFu));
      state.field[1][i - 2] = uint<32>((b.half[0] >> 32) & uint<64>(0xFFFF));
      state.field[2][i - 2] = uint<32>((b.half[0] >> 48) & uint<64>(0xFFFF));
    }
  }
}

template <class Port>
void load_embedding(const load_command& c, Port port, embedding_slot embedding[kSlots], const load_state& state) {
  const int beats = c.beats.to_int();  // a row, its scale beat included
  embedding_slot& slot = embedding[c.slot.to_int()];
load_embedding_rows:
  for (int t = 0; t < kLanes; ++t) {
    const uint64_t row = state.field[c.field.to_int()][c.row_block.to_int() * kLanes + t].to_uint64();
    const uint64_t base = c.beat_address.to_uint64() + row * beats;
  load_embedding_beats:
    for (int i = 0; i < beats; ++i) {
#pragma HLS PIPELINE II = 1
      trip(loop::load_embedding);
      const beat b = port[base + i];
      if (i == beats - 1) {
        slot.scale[t][0] = byte_of(b, 0);
        slot.scale[t][1] = byte_of(b, 1);
      } else if (c.four_bit == 1) {
      load_embedding_nibbles:
        for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
          const byte_t low = byte_of(b, j / 2);
          slot.value[t][2 * i][j] = byte_t((j % 2 == 0 ? byte_t((low & byte_t(15)) << 4) : byte_t(low & byte_t(240))));
          const byte_t high = byte_of(b, 8 + j / 2);
          slot.value[t][2 * i + 1][j] =
              byte_t((j % 2 == 0 ? byte_t((high & byte_t(15)) << 4) : byte_t(high & byte_t(240))));
        }
      } else {
      load_embedding_bytes:
        for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
          slot.value[t][i][j] = byte_of(b, j);
        }
      }
    }
  }
}

template <class Port>
void load_unit(hls::stream<load_command>& commands, Port ports[kPorts], hls::stream<token>& weights_free,
               hls::stream<token>& weights_ready, hls::stream<token>& parameters_free,
               hls::stream<token>& parameters_ready, weight_word weights[kSlots][kMaxEntries],
               uint<64> parameters[kSlots][kParameterWords], embedding_slot embedding[kSlots], load_state& state) {
  const load_command c = commands.read();
load_pop_weights:
  for (int i = 0; i < c.pop_weights_free.to_int(); ++i) weights_free.read();
load_pop_parameters:
  for (int i = 0; i < c.pop_parameters_free.to_int(); ++i) parameters_free.read();
  switch (c.kind.to_int()) {
    case kLoadWeights: load_weights(c, ports, weights); break;
    case kLoadParameters: load_words(c, loop::load_parameters, ports[0], parameters); break;
    case kLoadTable: load_words(c, loop::load_table, ports[0], parameters); break;
    case kLoadRows: load_rows(c, ports[0], parameters, state); break;
    case kLoadEmbedding: load_embedding(c, ports[0], embedding, state); break;
    default: break;
  }
  if (c.kind == kLoadWeights)
    weights_ready.write(token());
  else if (c.kind != kLoadDrain)
    parameters_ready.write(token());
}

}  // namespace zq
