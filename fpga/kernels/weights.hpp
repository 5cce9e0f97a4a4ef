// SPDX-License-Identifier: Apache-2.0
// Weights: brings one tile's beats from memory, or from the resident memory, one beat of every port a step, and sorts
// them for expand. Compressed tiles (docs/program.md) are segments behind each other, then an end beat:
//
//   header  [31:16] 0x5A47, [1:0] kind; beats that follow; K steps; non-zero weights of this port
//   masked  for every 4 steps a beat of 4 x 32 mask bits, then beats of 32 nibbles as soon as masks ask for them
//   chosen  for every 8 steps a beat of 8 x 8 choices of two bits, each followed by a beat a step
//   raw     a beat a step;  zero: nothing
//   end     0x2E444E45
//
// Whatever the beats say, exactly `beats` of them are read, and expand gets exactly `k` steps: what a corrupt tile lacks
// is 0, and its first fault is reported when the program ends.
#pragma once
#include "commands.hpp"
#include "trip.hpp"

namespace zq {

constexpr uint32_t kSegmentTag = 0x5A47;
constexpr uint32_t kEndTag = 0x2E444E45;

using port_word = lanes<beat, kPorts>;

struct weights_state {
  port_word resident[kResidentWords];
  weights_status fault;
};

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

inline uint32_t word_of(const beat& b, int i) {
#pragma HLS INLINE
  return uint32_t(((b.half[i / 2] >> (32 * (i % 2))) & uint<64>(0xFFFFFFFFu)).to_uint64());
}

inline int count_ones(uint32_t x) {
#pragma HLS INLINE
  x = x - ((x >> 1) & 0x55555555u);
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  return int((((x + (x >> 4)) & 0x0F0F0F0Fu) * 0x01010101u) >> 24);
}

inline int count_ones(const beat& b) {
#pragma HLS INLINE
  int count = 0;
count_words:
  for (int i = 0; i < 4; ++i) {
#pragma HLS UNROLL
    count += count_ones(word_of(b, i));
  }
  return count;
}

// The first `words` 32-bit words; the others are 0.
inline beat first_words(const beat& b, int words) {
#pragma HLS INLINE
  beat out;
  out.half[0] = words == 1 ? uint<64>(b.half[0] & uint<64>(0xFFFFFFFFu)) : b.half[0];
  out.half[1] = words <= 2 ? uint<64>(0) : (words == 3 ? uint<64>(b.half[1] & uint<64>(0xFFFFFFFFu)) : b.half[1]);
  return out;
}

inline beat zero_beat() {
#pragma HLS INLINE
  beat b;
  b.half[0] = b.half[1] = uint<64>(0);
  return b;
}

// What a tile still owes expand.
struct segment_state {
  int kind;
  int k;           // steps of the segment
  int beats;       // left of it
  int left_k;      // steps of the tile not yet in any segment
  int groups[kPorts];  // masks left, 4 steps each, or choices, 8 steps each
  int debt[kPorts];    // nibbles that they ask for and that have not come
  int count[kPorts];   // non-zeros that the header promised and no mask has shown
};

inline bool same_header(const port_word& w) {
#pragma HLS INLINE
  bool same = true;
same_header_ports:
  for (int p = 1; p < kPorts; ++p) {
#pragma HLS UNROLL
    same = same && w[p].half[0] == w[0].half[0] && word_of(w[p], 2) == word_of(w[0], 2);
  }
  return same;
}

inline int steps_of_group(uint32_t kind) {
#pragma HLS INLINE
  return kind == kChosenSegment ? kChoiceSteps : kMaskSteps;
}

// Starts a segment; its fault, kOk if it may. `left`: beats of the tile behind the header, the end beat among them.
inline int begin_segment(const port_word& w, int left, segment_state& s) {
#pragma HLS INLINE
  const uint32_t tag = word_of(w[0], 0);
  const uint32_t beats = word_of(w[0], 1);
  const uint32_t k = word_of(w[0], 2);
  const uint32_t kind = tag & 0xFFFFu;
  const int per = steps_of_group(kind);
  const int groups = int((k + per - 1) / per);
  if ((tag >> 16) != kSegmentTag || kind > uint32_t(kChosenSegment) || !same_header(w)) return kBadSegment;
  if (k == 0 || k > uint32_t(s.left_k) || (k != kSegmentSteps && k != uint32_t(s.left_k)) || k > kSegmentSteps) return kBadSegment;
  if (beats >= uint32_t(left)) return kOverlong;
  if (kind == kZeroSegment && beats != 0) return kBadSegment;
  if (kind == kRawSegment && beats != k) return kBadSegment;
  if (kind == kMaskedSegment && (beats < uint32_t(groups) || beats > uint32_t(5 * groups))) return kBadSegment;
  if (kind == kChosenSegment && beats != k + uint32_t(groups)) return kBadSegment;
  s.kind = int(kind);
  s.k = int(k);
  s.beats = int(beats);
  s.left_k -= int(k);
begin_segment_ports:
  for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
    s.groups[p] = kind >= uint32_t(kMaskedSegment) ? groups : 0;
    s.debt[p] = 0;
    s.count[p] = kind == kMaskedSegment ? int(word_of(w[p], 3) & 0xFFFFu) : 0;
  }
  return kOk;
}

inline void take_beat(const port_word& w, segment_state& s, hls::stream<beat> masks[kPorts],
                      hls::stream<beat> values[kPorts]) {
#pragma HLS INLINE
take_beat_ports:
  for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
    if (s.kind == kRawSegment || s.debt[p] > 0) {
      values[p].write(w[p]);
      s.debt[p] -= 32;
    } else if (s.groups[p] > 0) {
      const bool chosen = s.kind == kChosenSegment;
      const int per = steps_of_group(s.kind);
      const int left = s.k - per * ((s.k + per - 1) / per - s.groups[p]);
      const int steps = left < per ? left : per;
      const beat mask = chosen ? w[p] : first_words(w[p], steps);
      const int ones = count_ones(mask);
      masks[p].write(mask);
      s.debt[p] += chosen ? 32 * per : ones;  // the last choices of a segment get fewer: its beats end with its steps
      s.count[p] -= chosen ? 0 : ones;
      --s.groups[p];
    }
  }
  --s.beats;
}

// At its last beat a segment has shown all masks, their values, and as many non-zeros as it promised.
inline bool segment_complete(const segment_state& s) {
#pragma HLS INLINE
  bool complete = true;
complete_ports:
  for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
    complete = complete && s.groups[p] == 0 && (s.kind != kMaskedSegment || s.debt[p] <= 0) && s.count[p] == 0;
  }
  return complete;
}

// Zeros for what a corrupt tile did not bring.
inline void repair_tile(segment_state& s, hls::stream<segment_command>& segments, hls::stream<beat> masks[kPorts],
                        hls::stream<beat> values[kPorts]) {
repair_ports:
  for (int p = 0; p < kPorts; ++p) {
  repair_masks:
    for (int n = 0; n < s.groups[p]; ++n) masks[p].write(zero_beat());
    const int missing = s.kind == kMaskedSegment ? (s.debt[p] + 31) / 32 : (s.kind == kRawSegment ? s.beats : 0);
  repair_values:
    for (int n = 0; n < missing; ++n) values[p].write(zero_beat());
  }
  if (s.left_k > 0) {
    segment_command rest;
    rest.kind = uint<2>(int(kZeroSegment));
    rest.k = uint<13>(s.left_k);
    segments.write(rest);
  }
}

template <class Port>
void weights_tile(const weights_command& c, Port& p0, Port& p1, Port& p2, Port& p3, Port& p4, Port& p5,
                  hls::stream<segment_command>& segments, hls::stream<beat> masks[kPorts],
                  hls::stream<beat> values[kPorts], weights_state& state) {
  const int beats = c.beats.to_int();
  const uint64_t base = c.beat_address.to_uint64();
  const int first = c.resident.to_int();
  const bool keep = c.kind == kKeep;
  const bool from_memory = c.kind != kFromResident;
  const bool compressed = c.compressed == 1;
  segment_state s = {};
  s.left_k = c.k.to_int();
  int fault = kOk;
  bool dead = keep;  // what follows is read and dropped
  bool ended = keep || !compressed;
  if (!compressed && !keep) {
    segment_command raw;
    raw.kind = uint<2>(int(kRawSegment));
    raw.k = c.k;
    segments.write(raw);
    s.kind = kRawSegment;
    s.beats = beats;
    s.left_k = 0;
  }
weights_tile:
  for (int i = 0; i < beats; ++i) {
#pragma HLS PIPELINE II = 1
    trip(loop::load_weights);
    port_word w;
    if (from_memory) {
    weights_tile_ports:
      for (int p = 0; p < kPorts; ++p) {
#pragma HLS UNROLL
        w[p] = read_port(p, base + uint64_t(p) * beats + i, p0, p1, p2, p3, p4, p5);
      }
    } else {
      w = state.resident[first + i];
    }
    if (keep) state.resident[first + i] = w;
    if (!dead && s.beats > 0) {
      take_beat(w, s, masks, values);
      if (s.beats == 0 && compressed && !segment_complete(s)) {
        fault = kBadCount;
        dead = true;
      }
    } else if (!dead) {
      if (word_of(w[0], 0) == kEndTag) {
        ended = i == beats - 1 && s.left_k == 0;
        dead = true;
      } else {
        fault = begin_segment(w, beats - 1 - i, s);
        dead = fault != kOk;
        if (fault == kOk) {
          segment_command begun;
          begun.kind = uint<2>(s.kind);
          begun.k = uint<13>(s.k);
          segments.write(begun);
        }
      }
    }
  }
  if (fault == kOk && !ended) fault = kNoEnd;
  if (fault != kOk && state.fault.code == kOk) {
    state.fault.code = uint<4>(fault);
    state.fault.instruction = c.instruction;
  }
  if (fault != kOk) repair_tile(s, segments, masks, values);
}

template <class Port>
void weights_unit(hls::stream<weights_command>& commands, Port& p0, Port& p1, Port& p2, Port& p3, Port& p4, Port& p5,
                  hls::stream<token>& weights_free, hls::stream<segment_command>& segments,
                  hls::stream<beat> masks[kPorts], hls::stream<beat> values[kPorts],
                  hls::stream<weights_status>& faults, weights_state& state) {
  const weights_command c = commands.read();
weights_pop:
  for (int i = 0; i < c.pop_weights_free.to_int(); ++i) weights_free.read();
  if (c.kind == kWeightsDrain) {
    faults.write(state.fault);
    state.fault = weights_status();
  } else {
    weights_tile(c, p0, p1, p2, p3, p4, p5, segments, masks, values, state);
  }
}

}  // namespace zq
