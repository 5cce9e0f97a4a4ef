// SPDX-License-Identifier: Apache-2.0
// Testbench of every top: runs whole passes, each unit by its top function, and holds the memory after each against the
// vectors, byte by byte. Arguments: vector files. Exit code 0: all of them ran, and no byte differs.
#include <cstdio>
#include <memory>
#include <utility>

#include "../sim/block_diagram.hpp"
#include "tops.hpp"
#include "vectors.hpp"

namespace {

using namespace zq;

// The tops as units, and the memories between them. What a unit keeps for itself is static in its top.
struct top_units {
  beat memory[kTestbenchBeats];
  weight_word weight_buffer[kWeightWords];
  zq::uint<64> parameters[kSlots][kParameterWords];
  embedding_word embedding[kSlots][kLanes][kEmbeddingWords];
  activation_word activations[kActivationWords];
  activation_word key_value[kGroups][kKeyValueWords];

  std::vector<uint32_t> verdicts;  // that the vector unit is to give
  size_t given;                    // of them so far

  // Fetch waits for the answers of store, weights and vector unit, which come only after fetch has returned here: they
  // are given beforehand. The block diagram takes the real ones of store and weights, `vector` compares its own.
  template <class Verdicts>
  fetch_result fetch(const fetch_arguments& a, command_streams& out, Verdicts&) {
    hls::stream<token> done;
    done.write(token(1));
    hls::stream<weights_status> faults;
    faults.write(weights_status());
    hls::stream<exit_verdict> answers;
    uint32_t clock = kNoOutput;
    given = 0;
    for (const uint32_t word : verdicts) answers.write(verdict_of(word));
    uint32_t status = kDeadlock;
    uint64_t detail = 0;
    engine_fetch(a.program, a.image, a.io, a.instructions, a.row_blocks, &status, &detail, memory, out, done, faults,
                 answers, &clock);
    if (!answers.empty()) throw std::runtime_error("fetch has not asked for all verdicts");
    if (clock != chosen()) throw std::runtime_error("fetch drives another clock than the last verdict that chooses one");
    return {status, uint32_t(detail)};
  }
  void load(streams& s) {
    engine_load(s.commands.load, memory, s.parameters_free, s.parameters_ready, parameters, embedding);
  }
  void weights(streams& s) {
    engine_weights(s.commands.weights, memory, memory, memory, memory, memory, memory, s.weights_free, s.segments,
                   s.masks, s.values, s.faults);
  }
  void expand(streams& s) {
    engine_expand(s.commands.expand, s.segments, s.masks, s.values, s.weights_ready, weight_buffer);
  }
  void array(streams& s) {
    engine_array(s.commands.array, s.weights_ready, s.weights_free, s.data_ready, s.accumulators, activations,
                 weight_buffer, key_value);
  }
  void vector(streams& s) {
    engine_vector(s.commands.vector, s.parameters_ready, s.parameters_free, s.data_ready, s.accumulators, s.stored,
                  s.verdicts, parameters, embedding, activations, key_value);
    if (s.verdicts.empty()) return;
    const exit_verdict v = s.verdicts.read();
    const uint32_t word = uint32_t(v.live.to_int() | v.choose.to_int() << 4 | v.output.to_int() << 5);
    if (given == verdicts.size() || word != verdicts[given])
      throw std::runtime_error("verdict " + std::to_string(given) + " is " + std::to_string(word));
    ++given;
  }
  void store(streams& s) { engine_store(s.commands.store, s.stored, s.done, memory); }

 private:
  static constexpr uint32_t kNoOutput = 4;

  static exit_verdict verdict_of(uint32_t word) {
    exit_verdict v;
    v.live = zq::uint<4>(word & 15);
    v.choose = zq::uint<1>(word >> 4 & 1);
    v.output = zq::uint<2>(word >> 5);
    return v;
  }

  // What the last verdict that chooses an output has chosen.
  uint32_t chosen() const {
    uint32_t output = kNoOutput;
    for (const uint32_t word : verdicts)
      if ((word >> 4 & 1) == 1) output = word >> 5;
    return output;
  }
};

void put(const std::vector<uint8_t>& bytes, beat* memory) {
  for (int i = 0; i < kTestbenchBeats; ++i)
    for (int h = 0; h < 2; ++h) {
      uint64_t x = 0;
      for (int b = 7; b >= 0; --b) x = x << 8 | bytes[16 * i + 8 * h + b];
      memory[i].half[h] = x;
    }
}

int byte_at(const beat* memory, size_t address) { return byte_of(memory[address / 16], int(address % 16)).to_int(); }

// Where an address lies, as a person would look for it.
std::string place(const vectors& v, size_t address) {
  const std::pair<const char*, uint32_t> buffers[] = {{"program", v.program}, {"image", v.image}, {"io", v.io}};
  std::string name = "memory";
  size_t base = 0;
  for (const auto& buffer : buffers)
    if (buffer.second <= address && buffer.second >= base) {
      name = buffer.first;
      base = buffer.second;
    }
  return name + " + " + std::to_string(address - base);
}

// Throws std::runtime_error, which says what differs.
void run(const std::string& path, top_units& units) {
  const vectors v = vector_reader(path).read();
  put(v.before, units.memory);
  units.verdicts = v.verdicts;
  fetch_result result;
  try {
    result = block_diagram<top_units>(units).run({v.program, v.image, v.io, v.instructions, v.row_blocks}, 0);
  } catch (const std::exception& fault) {
    throw std::runtime_error(path + ": " + fault.what());
  }
  if (units.given != v.verdicts.size())
    throw std::runtime_error(path + ": only " + std::to_string(units.given) + " verdicts were given");
  if (result.status != kOk)
    throw std::runtime_error(path + ": ended with status " + std::to_string(result.status) + " at instruction " +
                             std::to_string(result.detail));
  size_t differing = 0;
  size_t first = 0;
  for (size_t i = kTestbenchBytes; i-- > 0;)
    if (byte_at(units.memory, i) != v.after[i]) {
      first = i;
      ++differing;
    }
  if (differing != 0)
    throw std::runtime_error(path + ": " + place(v, first) + " is " + std::to_string(byte_at(units.memory, first)) +
                             ", expected " + std::to_string(v.after[first]) + " (" + std::to_string(differing) +
                             " bytes differ)");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "no vector files are given\n");
    return 1;
  }
  const std::unique_ptr<top_units> units(new top_units());
  int faults = 0;
  for (int i = 1; i < argc; ++i) {
    try {
      run(argv[i], *units);
      std::printf("%s: equal\n", argv[i]);
    } catch (const std::exception& fault) {
      std::fprintf(stderr, "%s\n", fault.what());
      ++faults;
    }
  }
  return faults == 0 ? 0 : 1;
}
