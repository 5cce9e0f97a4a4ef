// SPDX-License-Identifier: Apache-2.0
// The array's cells at the machine's speed: the kernel's mac_step on blocks of cells that stay in vector registers for
// many steps, shared among threads. Every cell sums the same products in the same order as in the kernel.
//
// Sums are held in doubles, which have multiply-add in every vector unit: with the widths below, each product and each
// sum is an integer that a double holds exactly, so nothing is ever rounded.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "mac_array.hpp"
#include "worker_pool.hpp"

namespace zq {

static_assert(kAccumulatorBits <= 51 && kOperandBits + kActivationBits <= 51, "exact in a double, and below its 2^51");

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

class blocked_cells {
 public:
  // threads: that share the work, the caller's among them.
  void start(int threads) { pool_.reset(new worker_pool(threads)); }
  int threads() const { return pool_->threads(); }

  void clear() {
    pending_ = 0;
    cleared_ = true;
  }

  // Only notes where the operands stand, which stay there for the tile.
  void step(const weight_word& weights, const activation_word key_value[][kKeyValueWords], int at,
            const activation_word* activations, int operand, const operand_mode& mode) {
    weights_[pending_] = &weights;
    activations_[pending_] = activations + operand;
    at_[pending_] = at;
    key_value_ = key_value;
    mode_ = mode;
    if (++pending_ == kSteps) flush();
  }

  void column(int j, product_sum_t out[kLanes]) {
    if (pending_ > 0 || cleared_) flush();
    for (int b = 0; b < kRowBlocksOfCells; ++b)
      for (int v = 0; v < kBlockVectors; ++v)
        for (int i = 0; i < kVectorLanes; ++i)
          out[(b * kBlockVectors + v) * kVectorLanes + i].v =
              integer(p_[j / kBlockColumns][b][j % kBlockColumns][v][i]);
  }

 private:
  typedef double vector_of __attribute__((vector_size(kVectorBytes)));
  // A block's sums take half of sixteen registers: two columns by four vectors of rows.
  static constexpr int kBlockColumns = 2;
  static constexpr int kBlockVectors = 4;
  static constexpr int kVectorLanes = kVectorBytes / 8;
  static constexpr int kBlockRows = kBlockVectors * kVectorLanes;
  static constexpr int kRowBlocksOfCells = kLanes / kBlockRows;
  static constexpr int kSteps = 1024;      // steps whose products are summed together
  static constexpr int kBlockSteps = 128;  // of them those of a block at a time: their operands stay in the first cache
  static constexpr int kSharedSteps = 512;  // fewer cost more to share than they take: operands and sums change caches
  static constexpr int kSlice = 16;        // pairs of columns that a thread takes, or a multiple
  static constexpr int kSlices = kPairs / kSlice;
  static_assert(kLanes % kBlockRows == 0 && kSlice % kBlockColumns == 0 && kPairs % kSlice == 0, "whole blocks");
  static_assert(kBlockColumns == kChoicePairs, "the columns of a block choose alike");

  // The integer in d, |d| < 2^51: beside 3 * 2^51 it stands in the low bits of the double.
  static int64_t integer(double d) {
    constexpr double offset = 6755399441055744.0;
    const double shifted = d + offset;
    int64_t bits, zero;
    std::memcpy(&bits, &shifted, sizeof bits);
    std::memcpy(&zero, &offset, sizeof zero);
    return bits - zero;
  }

  void flush() {
    const int parts = pending_ < kSharedSteps ? 1 : std::min(pool_->threads(), kSlices);
    pool_->run(parts, [this, parts](int n) { slices(n * kSlices / parts, (n + 1) * kSlices / parts); });
    // The sums that another core has: asked for together, they come in the time of a few.
    const char* sums = reinterpret_cast<const char*>(p_);
    if (parts > 1)
      for (size_t at = 0; at < sizeof p_; at += 64) __builtin_prefetch(sums + at);
    pending_ = 0;
    cleared_ = false;
  }

  // Sums the pending steps' products in some of the columns. Each thread makes the operands that it needs: to read the
  // bytes from another core's cache costs less than to read operands from there.
  void slices(int begin, int end) {
    vector_of a[kRowBlocksOfCells][kBlockSteps][kBlockVectors];
    double w[kSlice / kBlockColumns][kBlockSteps][kBlockColumns];
    int entry[kSlice / kBlockColumns][kBlockSteps];  // that a block's columns take in a step
    int first = 0;
    do {
      // Activation words, each once: those of a block stand behind the first of its steps.
      int entries = 0, steps = 0, first_of_step[kBlockSteps];
      const int words = mode_.chosen ? kBlock : 1;
      for (; first + steps < pending_ && steps < kBlockSteps; ++steps) {
        const activation_word* of_step = activations_[first + steps];
        if (steps == 0 || !mode_.chosen || of_step != activations_[first + steps - 1]) {
          if (entries + words > kBlockSteps) break;
          for (int n = 0; n < words; ++n) read_entry(of_step[n], a, entries++);
        }
        first_of_step[steps] = entries - words;
      }
      for (int slice = begin; slice < end; ++slice) {
        for (int k = 0; k < steps; ++k) {
          const byte_t* bytes = operand_bytes(first + k, slice * kSlice);
          operand_t packed[kSlice];
          for (int j = 0; j < kSlice; ++j) packed[j] = pack_operand(bytes[j], mode_.w8);
          for (int j = 0; j < kSlice; ++j)
            w[j / kBlockColumns][k][j % kBlockColumns] = static_cast<double>(packed[j].v);
          if (mode_.chosen)
            for (int b = 0; b < kSlice / kBlockColumns; ++b)
              entry[b][k] = first_of_step[k] +
                            choice_of(*weights_[first + k], mode_, slice * (kSlice / kBlockColumns) + b);
        }
        for (int rows = 0; rows < kRowBlocksOfCells; ++rows)
          for (int b = 0; b < kSlice / kBlockColumns; ++b)
            block(w[b], a[rows], mode_.chosen ? entry[b] : nullptr, steps, cleared_ && first == 0, p_[slice * (kSlice / kBlockColumns) + b][rows]);
      }
      first += steps;
    } while (first < pending_);
  }

  void read_entry(const activation_word& word, vector_of (*a)[kBlockSteps][kBlockVectors], int entry) const {
    activation_t read[kLanes];
    read_operands(word, mode_, read);
    for (int rows = 0; rows < kRowBlocksOfCells; ++rows)
      for (int v = 0; v < kBlockVectors; ++v)
        for (int i = 0; i < kVectorLanes; ++i)
          a[rows][entry][v][i] = static_cast<double>(read[(rows * kBlockVectors + v) * kVectorLanes + i].v);
  }

  // Those of kSlice pairs from the j-th on, as operand_byte has them.
  const byte_t* operand_bytes(int k, int j) const {
    static_assert(kLanes % kSlice == 0, "a slice lies in one key/value group");
    return mode_.from_memory ? &key_value_[j / kLanes][at_[k]][j % kLanes] : &(*weights_[k])[j];
  }

  static void step_of(vector_of (&p)[kBlockColumns][kBlockVectors], const double* w, const vector_of* a) {
    for (int j = 0; j < kBlockColumns; ++j) mac_step(p[j], w[j], a);
  }

  // entry: where each step's activations are among them; null: in their order.
  static void block(const double (*w)[kBlockColumns], const vector_of (*a)[kBlockVectors], const int* entry, int steps,
                    bool fresh, vector_of (&sums)[kBlockColumns][kBlockVectors]) {
    vector_of p[kBlockColumns][kBlockVectors] = {};
    if (!fresh) std::memcpy(p, sums, sizeof p);
    if (entry == nullptr)  // apart: the machine then knows where the next activations are
      for (int k = 0; k < steps; ++k) step_of(p, w[k], a[k]);
    else
      for (int k = 0; k < steps; ++k) step_of(p, w[k], a[entry[k]]);
    std::memcpy(sums, p, sizeof p);
  }

  int pending_ = 0;  // steps whose products are not summed yet
  bool cleared_ = true;  // the sums are 0, whatever p_ holds
  operand_mode mode_ = {};
  std::unique_ptr<worker_pool, worker_pool::end> pool_;
  const activation_word (*key_value_)[kKeyValueWords] = nullptr;
  const weight_word* weights_[kSteps];
  const activation_word* activations_[kSteps];
  int at_[kSteps];
  vector_of p_[kPairs / kBlockColumns][kRowBlocksOfCells][kBlockColumns][kBlockVectors];
};

}  // namespace zq
