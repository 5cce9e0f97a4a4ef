// SPDX-License-Identifier: Apache-2.0
// The block diagram in simulation: the units, the streams that join them and the memories between them. A unit runs
// its next command when the tokens and data it waits for are there; which of the ready units goes first is free, and the
// tests shuffle it.
#pragma once
#include <memory>
#include <vector>

#include "fetch.hpp"
#include "load.hpp"
#include "mac_array.hpp"
#include "memory.hpp"
#include "store.hpp"
#include "vector_unit.hpp"

namespace zq {

struct engine_memories {
  weight_word weights[kSlots][kMaxEntries];
  uint<64> parameters[kSlots][kParameterWords];
  embedding_word embedding[kSlots][kLanes][kEmbeddingWords];
  activation_word activations[kActivationWords];
  activation_word key_value[kGroups][kKeyValueWords];
  load_state load;
  array_state array;
  vector_state vector;
};

class engine {
 public:
  engine() : memories_(new engine_memories()) {}

  // Runs one program to its end. Throws bus_fault, width_fault or std::logic_error.
  fetch_result run(const std::vector<memory_region>& regions, const fetch_arguments& arguments, uint64_t seed) {
    memory_port port(&regions);
    streams s;
    const fetch_result fetched = fetch_program(arguments, port, s.commands);
    memory_port ports[kMaxPorts];
    for (memory_port& p : ports) p = port;
    uint64_t shuffle = seed;
    for (;;) {
      bool progress = false;
      if (seed != 0) shuffle = shuffle * 6364136223846793005ULL + 1442695040888963407ULL;
      for (int n = 0; n < 4; ++n) {
        const int unit = (n + static_cast<int>(shuffle >> 33)) % 4;
        while (ready(s, unit)) {
          step(s, unit, ports);
          if (s.deepest_token_stream() > size_t(kTokenDepth)) throw std::logic_error("a token stream overflows");
          progress = true;
          if (seed != 0) break;
        }
      }
      if (!progress) break;
    }
    if (!s.done.empty()) s.done.read();
    if (s.left_over()) return {kDeadlock, fetched.detail};
    return fetched;
  }

  engine_memories& memories() { return *memories_; }

 private:
  struct streams {
    command_streams commands;
    hls::stream<token> weights_ready, weights_free, parameters_ready, parameters_free, data_ready, done;
    hls::stream<acc_word> accumulators;
    hls::stream<half_word> stored;

    size_t deepest_token_stream() const {
      size_t deepest = 0;
      for (const auto* t : {&weights_ready, &weights_free, &parameters_ready, &parameters_free, &data_ready})
        deepest = t->size() > deepest ? t->size() : deepest;
      return deepest;
    }

    bool left_over() const {
      return !(commands.load.empty() && commands.array.empty() && commands.vector.empty() && commands.store.empty() &&
               weights_ready.empty() && weights_free.empty() && parameters_ready.empty() && parameters_free.empty() &&
               data_ready.empty() && done.empty() && accumulators.empty() && stored.empty());
    }
  };

  static bool takes_accumulators(const vector_command& c) {
    return c.kind == kLinear || c.kind == kScores || c.kind == kContext;
  }

  static bool ready(const streams& s, int unit) {
    switch (unit) {
      case 0: {
        if (s.commands.load.empty()) return false;
        const load_command& c = s.commands.load.front();
        return s.weights_free.size() >= size_t(c.pop_weights_free.to_int()) &&
               s.parameters_free.size() >= size_t(c.pop_parameters_free.to_int());
      }
      case 1: {
        if (s.commands.array.empty()) return false;
        const array_command& c = s.commands.array.front();
        // The accumulator stream holds two tiles; a further one waits, as the drain would.
        return (c.pop_weights_ready == 0 || !s.weights_ready.empty()) &&
               s.data_ready.size() >= size_t(c.pop_data.to_int()) &&
               s.accumulators.size() + c.words.to_int() <= size_t(kAccumulatorDepth);
      }
      case 2: {
        if (s.commands.vector.empty()) return false;
        const vector_command& c = s.commands.vector.front();
        return (c.pop_parameters == 0 || !s.parameters_ready.empty()) &&
               (!takes_accumulators(c) || s.accumulators.size() >= size_t(c.words.to_int()));
      }
      default: {
        if (s.commands.store.empty()) return false;
        const store_command& c = s.commands.store.front();
        return c.end == 1 || s.stored.size() >= size_t(c.words.to_int());
      }
    }
  }

  void step(streams& s, int unit, memory_port ports[kMaxPorts]) {
    engine_memories& m = *memories_;
    switch (unit) {
      case 0:
        load_unit(s.commands.load, ports[0], ports[1], ports[2], ports[3], ports[4], ports[5], s.weights_free, s.weights_ready, s.parameters_free, s.parameters_ready,
                  m.weights, m.parameters, m.embedding, m.load);
        break;
      case 1:
        array_unit(s.commands.array, s.weights_ready, s.weights_free, s.data_ready, s.accumulators, m.activations,
                   m.weights, m.key_value, m.array);
        break;
      case 2:
        vector_unit(s.commands.vector, s.parameters_ready, s.parameters_free, s.data_ready, s.accumulators, s.stored,
                    m.parameters, m.embedding, m.activations, m.key_value, m.vector);
        break;
      default: store_unit(s.commands.store, s.stored, s.done, ports[0]); break;
    }
  }

  std::unique_ptr<engine_memories> memories_;
};

}  // namespace zq
