// SPDX-License-Identifier: Apache-2.0
// Where fetch places tiles of weights in the buffer, and what the directory of a compressed matrix says of them.
#pragma once
#include "fetch_state.hpp"

namespace zq {

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
  uint32_t bound;   // steps a block of kBlock entries; 0: a step an entry
};

// Steps of the array, and words of the weight buffer, that a tile of K entries takes.
inline int tile_steps(int k, const tile_entry& e) { return e.bound == 0 ? k : ceil_div(k, kBlock) * int(e.bound); }

inline int tile_width(const instruction& i) { return i.flag(17) ? kColumns / 2 : kColumns; }
inline int tile_count(const instruction& i) { return ceil_div(int(i.word[4]), tile_width(i)); }
inline bool branch(const instruction& i) { return i.flag(24); }
// Its tiles may have a density bound in blocks.
inline bool chosen(const instruction& i) { return i.op() == kGemmOp && i.flag(25); }
inline bool compressed(const instruction& i) { return i.op() == kKeepOp || i.flag(21); }
inline bool resident(const instruction& i) { return i.op() == kGemmOp && i.flag(22); }

// Beats behind the directory.
inline uint64_t stream_address(const instruction& i, const fetch_arguments& a) {
  return ((a.image + i.word[1]) >> 4) + tile_count(i);
}

inline bool valid_entry(const instruction& i, const tile_entry& e) {
  if (e.kind == 0) return e.beats == 0 && e.bound == 0;
  // KEEP only moves beats: what they are is the GEMM's affair.
  if (e.bound >= uint32_t(kBlock) || (e.bound != 0 && i.op() == kGemmOp && !chosen(i))) return false;
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
    entries[n].bound = word_of(b, 3);
    valid = valid && valid_entry(i, entries[n]);
  }
  return valid;
}

}  // namespace zq
