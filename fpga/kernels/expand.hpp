// SPDX-License-Identifier: Apache-2.0
// Expand: makes words of the weight buffer of what `weights` sorted, one a step and one step a cycle. Port p fills bytes
// 16p .. 16p + 15, as 32 nibbles, nibble j being channel j of the port's: non-zero where bit j of the mask is, and then
// the next of the port's values. Behind the pairs each port has two bytes of choices, 0 but in a chosen segment.
#pragma once
#include "weights.hpp"

namespace zq {

// Two beats of values, used in turn as a ring of 64 nibbles.
struct value_window {
  uint<64> nibbles[4];
  int next;  // 0 .. 63
  int left;  // nibbles not yet used, at most 63
};

inline void refill(value_window& window, const beat& values) {
#pragma HLS INLINE
  const int half = ((window.next + window.left) / 32) % 2;  // the one behind what is left
  window.nibbles[2 * half] = values.half[0];
  window.nibbles[2 * half + 1] = values.half[1];
  window.left += 32;
}

// 32 nibbles by a mask: bytes 16p .. 16p + 15 of the word.
inline void spread(uint32_t mask, value_window& window, int p, weight_word& word) {
#pragma HLS INLINE
  int at = window.next;
spread_bytes:
  for (int b = 0; b < 16; ++b) {
#pragma HLS UNROLL
    uint<8> made = uint<8>(0);
  spread_nibbles:
    for (int h = 0; h < 2; ++h) {
#pragma HLS UNROLL
      if ((mask >> (2 * b + h)) & 1) {
        const uint<8> nibble = uint<8>((window.nibbles[(at / 16) % 4] >> (4 * (at % 16))) & uint<64>(15));
        made = uint<8>(made + (nibble << (4 * h)));
        ++at;
      }
    }
    word[16 * p + b] = made;
  }
  window.left -= at - window.next;
  window.next = at % 64;
}

inline void expand_segment(const segment_command& segment, int first, hls::stream<beat> masks[kPorts],
                           hls::stream<beat> values[kPorts], weight_word weights[kWeightWords]) {
  const int k = segment.k.to_int();
  const bool raw = segment.kind == kRawSegment;
  const bool masked = segment.kind == kMaskedSegment;
  const bool chosen = segment.kind == kChosenSegment;
  beat mask[kPorts];
  value_window window[kPorts];
expand_clear:
  for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
    mask[p] = zero_beat();
    window[p].next = window[p].left = 0;
  expand_clear_nibbles:
    for (int i = 0; i < 4; ++i) {
#pragma HLS UNROLL
      window[p].nibbles[i] = uint<64>(0);
    }
  }
expand_words:
  for (int i = 0; i < k; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::expand_words);
    weight_word word;
  expand_ports:
    for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
      if ((masked && i % kMaskSteps == 0) || (chosen && i % kChoiceSteps == 0)) mask[p] = masks[p].read();
      const uint32_t bits = word_of(mask[p], i % kMaskSteps);
    expand_choices:
      for (int j = 0; j < 2; ++j) {
#pragma HLS UNROLL
        word[kPairs + 2 * p + j] = chosen ? byte_of(mask[p], 2 * (i % kChoiceSteps) + j) : byte_t(0);
      }
      if (raw || chosen) {
        const beat b = values[p].read();
      expand_bytes:
        for (int j = 0; j < 16; ++j) {
#pragma HLS UNROLL
          word[16 * p + j] = byte_of(b, j);
        }
      } else {
        if (window[p].left < count_ones(bits)) refill(window[p], values[p].read());
        spread(bits, window[p], p, word);
      }
    }
    weights[first + i] = word;
  }
}

inline void expand_unit(hls::stream<expand_command>& commands, hls::stream<segment_command>& segments,
                        hls::stream<beat> masks[kPorts], hls::stream<beat> values[kPorts],
                        hls::stream<token>& weights_ready, weight_word weights[kWeightWords]) {
  const expand_command c = commands.read();
  const int k = c.k.to_int();
  int done = 0;
expand_segments:
  while (done < k) {
    const segment_command segment = segments.read();
    expand_segment(segment, c.word.to_int() + done, masks, values, weights);
    done += segment.k.to_int();
  }
  weights_ready.write(token(1));
}

}  // namespace zq
