// SPDX-License-Identifier: Apache-2.0
// Vector unit: takes what the array drains and what load brings, one command a call. It alone writes the activation
// and key/value memories and owns the residual memory.
#pragma once
#include "exit.hpp"
#include "layer_norm.hpp"
#include "softmax.hpp"

namespace zq {

// A pass begins here: nobody has left it yet. A refill brings the rows of some row blocks, from `row_block` on, counted
// from their first, and the 8 lanes of each: nobody of these has left.
inline void copy_rows(const vector_command& c, const uint<64> parameters[kSlots][kParameterWords], vector_state& state) {
  const int slot = c.slot.to_int();
  const int words = c.words.to_int();
  const bool refill = c.refill == 1;
  const int first = refill ? c.row_block.to_int() : 0;
  const uint<7> first_row = uint<7>(first * kLanes);
  const int lane_words = refill ? (words - 4) / (2 * kLanes) : 4;  // 8 lanes each
  if (!refill || c.first_tile == 1) {
    clear_exits(state.exits);
  copy_no_results:
    for (int t = 0; t < kLanes; ++t) {
#pragma HLS UNROLL
      state.result_row[t] = byte_t(kNoRow);
    }
  }
vector_copy:
  for (int i = 0; i < words; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_copy);
    const uint<64> w = parameters[slot][i];
    if (i < 4) {
      if (i < lane_words) {
      copy_results:
        for (int j = 0; j < 8; ++j) {
#pragma HLS UNROLL
          const byte_t row = byte_t((w >> (8 * j)) & uint<64>(255));
          state.result_row[8 * (first + i) + j] = row == kNoRow ? row : byte_t(row + first_row);
          clear_exit(state.exits, 8 * (first + i) + j);
        }
      }
    } else if (i % 2 == 1) {
      const int row = first * kLanes + (i - 4) / 2;
      state.key_begin[row] = uint<8>(uint<8>(w & uint<64>(255)) + first_row);
      state.key_end[row] = uint<8>(uint<8>((w >> 16) & uint<64>(255)) + first_row);
    }
  }
}

inline void copy_table(const vector_command& c, const uint<64> parameters[kSlots][kParameterWords], vector_state& state) {
  const int slot = c.slot.to_int();
  const int id = c.table.to_int();
  const int words = c.words.to_int();
vector_copy:
  for (int i = 0; i < words; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_copy);
    const uint<64> w = parameters[slot][i];
  copy_bytes:
    for (int j = 0; j < 8; ++j) {
#pragma HLS UNROLL
      const byte_t b = byte_t((w >> (8 * j)) & uint<64>(255));
      if (id == kTableExit) state.exits.layers[8 * i + j] = b;
      if (id == kTableClock) state.exits.outputs[8 * i + j] = b;
    copy_copies:
      for (int k = 0; k < kTableCopies; ++k) {
#pragma HLS UNROLL
        if (id < kTables) state.table[id][k][8 * i + j] = b;
      }
    }
  }
}

inline void copy_heads(const vector_command& c, const uint<64> parameters[kSlots][kParameterWords], vector_state& state) {
  const int slot = c.slot.to_int();
  const int words = c.words.to_int();
vector_copy:
  for (int i = 0; i < words; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::vector_copy);
    state.head_factor[i] = uint<16>((parameters[slot][i] >> 32) & uint<64>(0xFFFF));
  }
}

template <class Predictor>
void vector_linear(const vector_command& c, hls::stream<acc_word>& accumulators,
                          const uint<64> parameters[kSlots][kParameterWords], vector_state& state,
                          activation_word activations[kActivationWords],
                          activation_word key_value[kGroups][kKeyValueWords], hls::stream<half_word>& stored,
                          hls::stream<exit_verdict>& verdicts) {
  switch (c.destination.to_int()) {
    case kToResidual: vector_to_residual(c, accumulators, parameters, state, activations, stored); break;
    case kToValues: vector_to_values(c, accumulators, parameters, state, key_value, stored); break;
    case kToIo: vector_to_io(c, accumulators, parameters, stored); break;
    case kToExit: vector_to_exit<Predictor>(c, accumulators, parameters, state, stored, verdicts); break;
    default: vector_to_activation(c, accumulators, parameters, state, activations, key_value, stored); break;
  }
}

// Predictor: how an off-ramp foretells the layer of its sentences.
template <class Predictor = exit_table>
void vector_unit(hls::stream<vector_command>& commands, hls::stream<token>& parameters_ready,
                        hls::stream<token>& parameters_free, hls::stream<token>& data_ready,
                        hls::stream<acc_word>& accumulators, hls::stream<half_word>& stored,
                        hls::stream<exit_verdict>& verdicts,
                        const uint<64> parameters[kSlots][kParameterWords], const embedding_word embedding[kSlots][kLanes][kEmbeddingWords],
                        activation_word activations[kActivationWords],
                        activation_word key_value[kGroups][kKeyValueWords], vector_state& state) {
#pragma HLS ALLOCATION function instances = requantize_word limit = 1
  const vector_command c = commands.read();
  if (c.pop_parameters == 1) parameters_ready.read();
  switch (c.kind.to_int()) {
    case kCopyRows: copy_rows(c, parameters, state); break;
    case kCopyTable: copy_table(c, parameters, state); break;
    case kEmbed: vector_embed(c, embedding, state, stored); break;
    case kLinear: vector_linear<Predictor>(c, accumulators, parameters, state, activations, key_value, stored, verdicts); break;
    case kScores: vector_softmax(c, accumulators, state, activations, stored); break;
    case kContext: vector_context(c, accumulators, state, activations, stored); break;
    case kCopyHeads: copy_heads(c, parameters, state); break;
    case kNorm: vector_norm(c, parameters, state, activations, stored); break;
    default: vector_gather(c, parameters, state, activations, stored); break;
  }
  if (c.push_parameters_free == 1) parameters_free.write(token(1));
vector_push_data:
  for (int i = 0; i < c.push_data.to_int(); ++i) data_ready.write(token(1));
}

}  // namespace zq
