// SPDX-License-Identifier: Apache-2.0
// The block diagram in simulation: the streams that join the units, and the order in which the units run. A unit gets
// its next command when the tokens and data it waits for are there; which of the ready units goes first is free, and
// the tests shuffle it.
//
// `Units` is what runs a unit: the kernels' functions (engine.hpp) or the tops (testbench/). Of a stream only what
// the vendor's hls_stream.h has too is used here, none of it on a const stream.
#pragma once
#include <cstddef>
#include <deque>
#include <stdexcept>

#include "fetch.hpp"

namespace zq {

struct streams {
  command_streams commands;  // what fetch sends; afterwards the one command that a unit is to read
  hls::stream<token> weights_ready, weights_free, parameters_ready, parameters_free, data_ready, done;
  hls::stream<segment_command> segments;
  hls::stream<beat> masks[kPorts], values[kPorts];
  hls::stream<weights_status> faults;
  hls::stream<acc_word> accumulators;
  hls::stream<half_word> stored;
  hls::stream<exit_verdict> verdicts;
};

// Fetch waits for a verdict that never comes.
struct no_verdict {};

// One pass: an object runs one program. Fetch sends all its commands before the others begin, but for those behind an
// EXIT: it reads a verdict, for which the units run until none can go on.
template <class Units>
class block_diagram {
 public:
  explicit block_diagram(Units& units) : units_(units) {}

  // Runs the program to its end. Throws what the units throw, and std::logic_error where a token stream overflows.
  fetch_result run(const fetch_arguments& arguments, uint64_t seed) {
    seed_ = shuffle_ = seed;
    verdict_source verdicts = {*this};
    fetch_result fetched;
    try {
      fetched = units_.fetch(arguments, s_.commands, verdicts);
    } catch (const no_verdict&) {
      return {kDeadlock, arguments.instructions};
    }
    run_units();
    const bool answered = !s_.done.empty() && !s_.faults.empty();
    if (!answered) return {kDeadlock, fetched.detail};
    s_.done.read();
    const weights_status weights = s_.faults.read();
    if (left_over()) return {kDeadlock, fetched.detail};
    return result_of(fetched, weights);
  }

 private:
  // What fetch reads verdicts from.
  struct verdict_source {
    block_diagram& diagram;
    exit_verdict read() {
      diagram.run_units();
      if (diagram.s_.verdicts.empty()) throw no_verdict();
      return diagram.s_.verdicts.read();
    }
  };

  // Takes what fetch has sent, and runs the units until none can go on.
  void run_units() {
    take(s_.commands.load, load_);
    take(s_.commands.weights, weights_);
    take(s_.commands.expand, expand_);
    take(s_.commands.array, array_);
    take(s_.commands.vector, vector_);
    take(s_.commands.store, store_);
    for (;;) {
      bool progress = false;
      if (seed_ != 0) shuffle_ = shuffle_ * 6364136223846793005ULL + 1442695040888963407ULL;
      for (int n = 0; n < kUnits; ++n) {
        const int unit = (n + static_cast<int>(shuffle_ >> 33)) % kUnits;
        while (ready(unit)) {
          step(unit);
          if (deepest_token_stream() > size_t(kTokenDepth)) throw std::logic_error("a token stream overflows");
          progress = true;
          if (seed_ != 0) break;
        }
      }
      if (!progress) break;
    }
  }

  enum unit { kLoad, kWeights, kExpand, kArray, kVector, kStore, kUnits };

  template <class T>
  static void take(hls::stream<T>& from, std::deque<T>& waiting) {
    while (!from.empty()) waiting.push_back(from.read());
  }

  template <class T>
  static void hand(std::deque<T>& waiting, hls::stream<T>& to) {
    to.write(waiting.front());
    waiting.pop_front();
  }

  size_t deepest_token_stream() {
    size_t deepest = 0;
    for (auto* t : {&s_.weights_ready, &s_.weights_free, &s_.parameters_ready, &s_.parameters_free, &s_.data_ready})
      deepest = t->size() > deepest ? t->size() : deepest;
    return deepest;
  }

  bool left_over() {
    for (int p = 0; p < kPorts; ++p)
      if (!s_.masks[p].empty() || !s_.values[p].empty()) return true;
    if (!(weights_.empty() && expand_.empty() && s_.commands.weights.empty() && s_.commands.expand.empty() &&
          s_.segments.empty() && s_.faults.empty()))
      return true;
    return !(load_.empty() && array_.empty() && vector_.empty() && store_.empty() && s_.commands.load.empty() &&
             s_.commands.array.empty() && s_.commands.vector.empty() && s_.commands.store.empty() &&
             s_.weights_ready.empty() && s_.weights_free.empty() && s_.parameters_ready.empty() &&
             s_.parameters_free.empty() && s_.data_ready.empty() && s_.done.empty() && s_.accumulators.empty() &&
             s_.stored.empty() && s_.verdicts.empty());
  }

  static bool takes_accumulators(const vector_command& c) {
    return c.kind == kLinear || c.kind == kScores || c.kind == kContext;
  }

  bool ready(int unit) {
    switch (unit) {
      case kLoad:
        return !load_.empty() && s_.parameters_free.size() >= size_t(load_.front().pop_parameters_free.to_int());
      case kWeights:
        return !weights_.empty() && s_.weights_free.size() >= size_t(weights_.front().pop_weights_free.to_int());
      // Weights sends the segments of a whole tile before anything else runs.
      case kExpand: return !expand_.empty() && !s_.segments.empty();
      case kArray: {
        if (array_.empty()) return false;
        const array_command& c = array_.front();
        // The accumulator stream holds some tiles; a further one waits, as the drain would.
        return (c.pop_weights_ready == 0 || !s_.weights_ready.empty()) &&
               s_.data_ready.size() >= size_t(c.pop_data.to_int()) &&
               s_.accumulators.size() + c.words.to_int() <= size_t(kAccumulatorDepth);
      }
      case kVector: {
        if (vector_.empty()) return false;
        const vector_command& c = vector_.front();
        return (c.pop_parameters == 0 || !s_.parameters_ready.empty()) &&
               (!takes_accumulators(c) || s_.accumulators.size() >= size_t(c.words.to_int()));
      }
      default: {
        if (store_.empty()) return false;
        const store_command& c = store_.front();
        return c.end == 1 || s_.stored.size() >= size_t(c.words.to_int());
      }
    }
  }

  void step(int unit) {
    switch (unit) {
      case kLoad:
        hand(load_, s_.commands.load);
        units_.load(s_);
        break;
      case kWeights:
        hand(weights_, s_.commands.weights);
        units_.weights(s_);
        break;
      case kExpand:
        hand(expand_, s_.commands.expand);
        units_.expand(s_);
        break;
      case kArray:
        hand(array_, s_.commands.array);
        units_.array(s_);
        break;
      case kVector:
        hand(vector_, s_.commands.vector);
        units_.vector(s_);
        break;
      default:
        hand(store_, s_.commands.store);
        units_.store(s_);
        break;
    }
  }

  Units& units_;
  streams s_;
  uint64_t seed_ = 0;
  uint64_t shuffle_ = 0;
  std::deque<load_command> load_;
  std::deque<weights_command> weights_;
  std::deque<expand_command> expand_;
  std::deque<array_command> array_;
  std::deque<vector_command> vector_;
  std::deque<store_command> store_;
};

}  // namespace zq
