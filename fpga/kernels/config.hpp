// SPDX-License-Identifier: Apache-2.0
// Every width, lane count and depth of the engine. One board differs from another by kColumns alone.
#pragma once

#ifndef ZQ_COLUMNS
#error "define ZQ_COLUMNS: 128 for ZCU102, 192 for ZCU111"
#endif

namespace zq {

// Array shape: rows of tokens by columns of channels (w4 mode); two columns share a DSP48E2.
constexpr int kLanes = 32;
constexpr int kColumns = ZQ_COLUMNS;
constexpr int kPairs = kColumns / 2;
constexpr int kGroups = kColumns / 64;  // column groups of 32 in w8 mode
constexpr int kPorts = kColumns / 32;   // 128-bit AXI ports that bring weights
static_assert(kColumns % 64 == 0, "w8 mode takes whole groups of 32 columns");
// Density-bound blocks: of so many consecutive entries of K the channels that choose alike use a few.
constexpr int kBlock = 4;
constexpr int kChoicePairs = 2;                // pairs of columns that choose alike
constexpr int kChoiceBytes = kPairs / kChoicePairs / 4;  // of a weight word: two bits each, two bytes a port
constexpr int kMaxPorts = 6;            // HP0-3, HPC0-1 of the PS
static_assert(kPorts <= kMaxPorts, "weights need a port of their own for every 32 columns");

// A pass.
constexpr int kRowBlocks = 4;
constexpr int kRows = kRowBlocks * kLanes;
constexpr int kMaxWidth = 1024;
constexpr int kMaxHeads = 32;
constexpr int kMaxLabels = 1024;
constexpr int kMaxHeadWidth = 64;
constexpr int kFullSpan = kRows;  // of a head that sees every key of a row's range
constexpr int kMaxLayers = 63;   // that an off-ramp can name
constexpr int kRecordWords = 5;  // that it leaves behind its logits

// Packed products: P += (n1 * 2^23 + n0) * a.
constexpr int kFieldShift = 23;
constexpr int kOperandBits = 27;
constexpr int kActivationBits = 9;
constexpr int kAccumulatorBits = 48;
constexpr int kAccBits = 27;  // one drained accumulator, and accumulator plus bias
static_assert(kOperandBits <= 27 && kActivationBits <= 18 && kAccumulatorBits <= 48, "DSP48E2: 27 x 18 multiplier, 48-bit P");
static_assert(kFieldShift + 4 <= kOperandBits, "signed high nibble above the field");

// Memories.
constexpr int kMaxEntries = 4608;      // K of one product
constexpr int kParameterWords = 1280;  // 64-bit words a slot
constexpr int kActivationWords = 24576;  // in kBlock banks, word i in bank i % kBlock
constexpr int kSlots = 2;
constexpr int kWeightWords = 2 * kMaxEntries;  // a ring of tiles, one word a K step
constexpr int kWeightTiles = 8;                // tiles in it at a time
// Compressed weights that stay on chip, a beat of every port a word: what the part's memories leave (fpga/resources.py).
constexpr int kResidentWords = kColumns == 128 ? 11264 : 29696;
constexpr int kHeadWords = kMaxHeads * (kMaxWidth / kMaxHeads + 2);  // factors of an attention, padded to beats
static_assert(kHeadWords <= kParameterWords, "they travel through a parameter slot");
constexpr int kKeyWords = 2 * kMaxWidth;  // K: (row block / 2) x channel
constexpr int kValueBase = kKeyWords;
constexpr int kKeyValueWords = kKeyWords + kMaxHeads * kRows;
// Keys of two row blocks make a tile of scores: its 64 words are drained in the 64 steps of the next one.
constexpr int kKeyGroups = 2;
static_assert(kKeyGroups <= kGroups && kRowBlocks <= 2 * kKeyGroups, "two keys' tiles cover a pass");
static_assert(kMaxHeadWidth / kLanes <= kGroups, "one head's values fit the column groups");
constexpr int kEmbeddingBeats = kMaxWidth / 16;
constexpr int kMaskChannels = 128;  // of an adaptive embedding row, that a beat of its mask tells of
constexpr int kScoreStepTop = 255;

// Depths of the streams between the units, set where the block design joins them. The accumulators hold four tiles, so
// that the array goes on while a norm runs: a tile starts only when its words fit, so it never stalls in the middle of one.
constexpr int kAccumulatorDepth = 4 * kColumns;
constexpr int kStoredDepth = 32;
constexpr int kCommandDepth = 64;
constexpr int kTokenDepth = 16;
static_assert(kWeightTiles <= kTokenDepth, "a token for each tile in the weight buffer");

// Compressed weights (docs/program.md). Within a segment one port may be ahead of another by all its masks, or by 114
// beats of values: the streams hold them, so that no port waits for one that waits for it.
constexpr int kSegmentSteps = 256;
constexpr int kMaskDepth = kSegmentSteps / 4;
constexpr int kMaskSteps = 4;    // that a beat of masks tells of
constexpr int kChoiceSteps = 8;  // that a beat of choices tells of
constexpr int kValueDepth = 128;
constexpr int kMaxTiles = (kMaxEntries + kColumns - 1) / kColumns;

// Program.
constexpr int kProgramVersion = 4;
constexpr int kInstructionBeats = 4;
constexpr unsigned kCapabilities = 0b11111111111;  // fpga/capabilities.py
// Register ID, 64 bits: what stands on chip beside fetch (fpga/registers.py, rtl/engine_control.v).
constexpr unsigned long long kEngineId =
    (static_cast<unsigned long long>(kCapabilities) << 8 | kLanes) << 32 | 0x5A51u << 16 | kProgramVersion << 8 | kColumns;

}  // namespace zq
