// SPDX-License-Identifier: Apache-2.0
// The engine of the emulated device: the kernels' functions as units, their memories, and the device's memory bus.
#pragma once
#include <memory>
#include <vector>

#include "block_diagram.hpp"
#include "expand.hpp"
#include "load.hpp"
#include "mac_array.hpp"
#include "memory.hpp"
#include "store.hpp"
#include "vector_unit.hpp"
#include "zq_cells.hpp"

namespace zq {

struct engine_memories {
  weight_word weights[kWeightWords];
  uint<64> parameters[kSlots][kParameterWords];
  embedding_word embedding[kSlots][kLanes][kEmbeddingWords];
  activation_word activations[kActivationWords];
  activation_word key_value[kGroups][kKeyValueWords];
  load_state load;
  weights_state weights_of_tiles;
  array_cells array;
  vector_state vector;
};

constexpr uint32_t kNoOutput = 0xFFFFFFFFu;

// Units for one pass. Throw bus_fault and width_fault.
class kernel_units {
 public:
  kernel_units(engine_memories& memories, const std::vector<memory_region>& regions) : m_(memories) {
    for (memory_port& p : ports_) p = memory_port(&regions);
    load_port_ = memory_port(&regions);
    m_.weights_of_tiles.fault = weights_status();  // of a program that did not come to its end
  }

  template <class Verdicts>
  fetch_result fetch(const fetch_arguments& arguments, command_streams& out, Verdicts& verdicts) {
    return fetch_program(arguments, ports_[0], out, verdicts, &clock_output_);
  }
  uint32_t clock_output() const { return clock_output_; }
  void load(streams& s) {
    load_unit(s.commands.load, load_port_, s.parameters_free, s.parameters_ready, m_.parameters, m_.embedding, m_.load);
  }
  void weights(streams& s) {
    weights_unit(s.commands.weights, ports_[0], ports_[1], ports_[2], ports_[3], ports_[4], ports_[5], s.weights_free,
                 s.segments, s.masks, s.values, s.faults, m_.weights_of_tiles);
  }
  void expand(streams& s) {
    expand_unit(s.commands.expand, s.segments, s.masks, s.values, s.weights_ready, m_.weights);
  }
  void array(streams& s) {
    array_unit(s.commands.array, s.weights_ready, s.weights_free, s.data_ready, s.accumulators, m_.activations,
               m_.weights, m_.key_value, m_.array);
  }
  void vector(streams& s) {
    vector_unit(s.commands.vector, s.parameters_ready, s.parameters_free, s.data_ready, s.accumulators, s.stored, s.verdicts,
                m_.parameters, m_.embedding, m_.activations, m_.key_value, m_.vector);
  }
  void store(streams& s) { store_unit(s.commands.store, s.stored, s.done, ports_[0]); }

 private:
  engine_memories& m_;
  memory_port ports_[kMaxPorts];  // of weights; fetch and store share the first
  memory_port load_port_;
  uint32_t clock_output_ = kNoOutput;
};

class engine {
 public:
  // threads: that share the array's work, in a build that can.
  explicit engine(int threads) : memories_(new engine_memories()) { memories_->array.start(threads); }

  // Runs one program to its end; clock_output: what it asked the clock to be last, or kNoOutput. Throws bus_fault,
  // width_fault or std::logic_error.
  fetch_result run(const std::vector<memory_region>& regions, const fetch_arguments& arguments, uint64_t seed,
                   uint32_t& clock_output) {
    kernel_units units(*memories_, regions);
    const fetch_result result = block_diagram<kernel_units>(units).run(arguments, seed);
    clock_output = units.clock_output();
    return result;
  }

  engine_memories& memories() { return *memories_; }

 private:
  std::unique_ptr<engine_memories> memories_;
};

}  // namespace zq
