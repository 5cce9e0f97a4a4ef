// SPDX-License-Identifier: Apache-2.0
// What fetch sends to the units, and the streams that join them. See docs/program.md.
#pragma once
#include <hls_stream.h>

#include "types.hpp"

namespace zq {

// How a run ended (register STATUS); those from 6 on are faults of compressed weights.
enum status_code {
  kOk = 0,
  kBadOpcode = 1,
  kBadField = 2,
  kBusError = 3,
  kDeadlock = 4,
  kWidthFault = 5,
  kBadDirectory = 6,
  kBadSegment = 7,
  kOverlong = 8,
  kBadCount = 9,
  kNoEnd = 10
};

// A token's value means nothing, only that it came. Command fields start at 0: ap_uint leaves a fresh value undefined.
using token = uint<1>;

enum load_kind { kLoadParameters, kLoadTable, kLoadRows, kLoadEmbedding, kLoadDrain };

struct load_command {
  uint<3> kind = 0;
  uint<60> beat_address = 0;  // of the first beat (byte address / 16)
  uint<16> beats = 0;         // in all, or of one row
  uint<1> slot = 0;
  uint<2> pop_parameters_free = 0;  // tokens popped first
  uint<2> row_block = 0;            // kLoadEmbedding; kLoadRows: of the first row
  uint<2> field = 0;
};

enum weights_kind { kFromMemory, kKeep, kFromResident, kWeightsDrain };

struct weights_command {
  uint<2> kind = 0;
  uint<60> beat_address = 0;  // of the first port's first beat
  uint<16> beats = 0;         // a port
  uint<16> resident = 0;      // word of the resident memory
  uint<13> k = 0;             // steps that come of them
  uint<1> compressed = 0;
  uint<4> pop_weights_free = 0;  // tokens popped first
  uint<16> instruction = 0;      // blamed for faults
};

// Ends a program: the first fault of its compressed weights, kOk if none.
struct weights_status {
  uint<4> code = 0;
  uint<16> instruction = 0;
};

enum segment_kind { kZeroSegment, kRawSegment, kMaskedSegment, kChosenSegment };

struct segment_command {
  uint<2> kind = 0;
  uint<13> k = 0;
};

struct expand_command {
  uint<13> k = 0;
  uint<14> word = 0;  // first of the weight buffer
};

struct array_command {
  uint<1> w8 = 0;
  uint<1> unsigned_operand = 0;
  uint<1> keys_values = 0;  // second operand from the key/value memory, not from the weight buffer
  uint<14> weights = 0;  // first word of the weight buffer
  uint<15> operand = 0;  // word of the activation memory
  uint<13> key_value = 0;
  uint<13> k = 0;
  uint<8> words = 0;  // columns drained
  uint<1> pop_weights_ready = 0;
  uint<1> push_weights_free = 0;
  uint<8> pop_data = 0;  // tokens data-ready (vector to array)
  uint<1> zero = 0;      // every operand is 0, whatever the memories hold: a tile without weights, in one step
  uint<2> bound = 0;     // steps a block of kBlock activation words, of which each group of channels chooses; 0: a word a step
};

enum vector_kind { kCopyRows, kCopyTable, kEmbed, kLinear, kScores, kContext, kNorm, kGather, kCopyHeads };
enum destination { kToActivation, kToResidual, kToKeys, kToValues, kToIo, kToExit };

struct vector_command {
  uint<4> kind = 0;
  uint<1> slot = 0;
  uint<1> pop_parameters = 0;
  uint<1> push_parameters_free = 0;
  uint<3> push_data = 0;  // tokens data-ready: one for each row block of the result
  uint<1> tee = 0;  // every word produced also goes to store
  uint<2> row_block = 0;
  uint<11> words = 0;    // columns, keys, channels or entries, by kind
  uint<11> width = 0;    // kNorm, kGather: channels; kEmbed: beats of a row
  uint<11> channel = 0;  // kLinear: first channel of the tile; kScores, kContext: first of the head's factors
  uint<3> destination = 0;
  uint<15> address = 0;  // activation memory
  uint<3> table = 0;
  uint<1> unsigned_output = 0;
  uint<7> head_width = 0;  // kToValues
  uint<1> first_tile = 0;  // kLinear to residual: clears the sums; to an exit: the first logits of its lanes
  uint<8> m = 0;           // residual, operand or score factor
  uint<5> s = 0;           // the same, or the entropy's
  uint<1> normalized = 0;
  uint<1> item_slot = 0;  // attention: slot of P and of the reciprocals
  uint<1> plain = 0;      // kNorm: y = x
  uint<1> four_bit = 0;   // kEmbed
  uint<8> span = 0;       // kScores: a row sees the keys nearer than this
  uint<2> key_block = 0;  // kScores: row block of the first key
  // kLinear to an exit (Q21, Q22)
  uint<1> last_tile = 0;  // the last logits: entropies, verdict and record follow
  uint<1> predict = 0;
  uint<1> clock = 0;
  uint<1> last = 0;  // off-ramp: all leave
  uint<4> row_shift = 0;
  uint<6> layer = 0;
  uint<15> threshold = 0;
  uint<16> entropy_m = 0;
  uint<1> adaptive = 0;  // kEmbed
  uint<1> branch = 0;    // kLinear to residual: the product alone also to the activation memory (Q25)
  uint<1> refill = 0;    // kCopyRows: of some row blocks, from `row_block` on, and their lanes alone
  uint<1> counted = 0;   // kLinear to an exit: the layer is that of each lane, one more at every exit
};

// What the vector unit tells fetch after an EXIT: the row blocks in which a sentence is left, and, with `choose`, the
// output of the clocking wizard for what follows.
struct exit_verdict {
  uint<4> live = 0;
  uint<1> choose = 0;
  uint<2> output = 0;
};

struct store_command {
  uint<1> end = 0;
  uint<60> beat_address = 0;
  uint<11> words = 0;
  uint<1> wide = 0;  // int16 words (4 beats), else int8 (2 beats)
};

}  // namespace zq
