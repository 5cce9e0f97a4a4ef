// SPDX-License-Identifier: Apache-2.0
// Store: writes words of the vector unit to memory as they come, int8 words as two beats, int16 words as four;
// END answers fetch once everything before it is written.
#pragma once
#include "commands.hpp"
#include "trip.hpp"

namespace zq {

template <class Port>
void store_unit(hls::stream<store_command>& commands, hls::stream<half_word>& words, hls::stream<token>& done,
                Port& port) {
  const store_command c = commands.read();
  if (c.end == 1) {
    done.write(token(1));
    return;
  }
  const bool wide = c.wide == 1;
  const int per_word = wide ? 4 : 2;
  const int per_half = wide ? 4 : 8;  // lanes in 64 bits
  const int count = c.words.to_int();
store_words:
  for (int i = 0; i < count; ++i) {
    const half_word w = words.read();
  store_beats:
    for (int b = 0; b < per_word; ++b) {
#pragma HLS PIPELINE II = 1
      trip(loop::store_words);
      beat out;
    store_halves:
      for (int h = 0; h < 2; ++h) {
#pragma HLS UNROLL
        uint<64> bits = uint<64>(0);
      store_lanes:
        for (int j = 0; j < 8; ++j) {
#pragma HLS UNROLL
          if (j < per_half) {
            const sint<18> value = sint<18>(w[(2 * b + h) * per_half + j]);
            const sint<18> mask = sint<18>(wide ? 65535 : 255);
            bits = uint<64>(bits + (uint<64>(uint<16>(value & mask)) << (wide ? 16 * j : 8 * j)));
          }
        }
        out.half[h] = bits;
      }
      port[c.beat_address.to_uint64() + uint64_t(i) * per_word + b] = out;
    }
  }
}

}  // namespace zq
