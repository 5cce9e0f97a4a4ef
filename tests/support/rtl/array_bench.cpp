// SPDX-License-Identifier: Apache-2.0
// engine_array between memories of two cycles and streams that stall as they are told. Called by ctypes (rtl_array.py).
//
// Cycle 0 is the first out of reset; with `reset_at` the first out of a second one, that many cycles later, before which
// the same commands run and what they give is dropped. A stream's word may be offered from its own cycle on (`*_at`), and once offered
// stays; where a rate (in 256ths) is below 256 it waits at random before that, and the takers of the array's streams
// are ready at random. Faults are what AXI4-Stream forbids: a word that moves or goes while it is not taken.
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "Vengine_array.h"

namespace {

constexpr size_t kCommandBytes = 18;
constexpr int64_t kSettled = 200;

// Cycles in which a cell's registers were enabled (enabled_cycles.sv).
uint64_t multiplied, added;

template <class Port>
void put(Port& port, const uint8_t* bytes) {
  std::memcpy(&port, bytes, sizeof(Port));
}

template <class Port>
class Memory {  // rtl/memory.v with STALLS = 0, words of so many bytes; the `bank`-th of `banks` that have them in turn
 public:
  Memory(const uint8_t* words, uint64_t count, size_t bytes, Port& q, std::mt19937& random, int bank = 0, int banks = 1)
      : words_(words), count_(count), bytes_(bytes), q_(q), bank_(bank), banks_(banks) {
    for (auto* p : {word_, out_})
      for (size_t i = 0; i < sizeof(Port); ++i) p[i] = uint8_t(random());
    put(q_, out_);
  }
  void edge(uint32_t address, bool ce) {
    std::memcpy(out_, word_, sizeof(Port));
    const uint64_t word = uint64_t(address) * banks_ + bank_;
    if (ce && word < count_) std::memcpy(word_, words_ + word * bytes_, bytes_);
  }
  void show() { put(q_, out_); }

 private:
  const uint8_t* words_;
  uint64_t count_;
  size_t bytes_;
  Port& q_;
  int bank_, banks_;
  uint8_t word_[sizeof(Port)], out_[sizeof(Port)];
};

class Giver {
 public:
  Giver(const int64_t* at, uint64_t count, int rate, std::mt19937& random)
      : at_(at), count_(count), rate_(rate), random_(random) {}
  bool valid(int64_t cycle) {
    if (!offered_ && next < count_ && at_[next] <= cycle) offered_ = rate_ >= 256 || int(random_() & 255) < rate_;
    return offered_;
  }
  void taken() {
    offered_ = false;
    ++next;
  }
  void restart() {
    offered_ = false;
    next = 0;
  }
  uint64_t next = 0;

 private:
  const int64_t* at_;
  uint64_t count_;
  int rate_;
  std::mt19937& random_;
  bool offered_ = false;
};

}  // namespace

struct array_run {
  uint64_t seed, commands, weights, data, words, limit;  // counts: given, given, given, wanted; cycles at most
  int64_t command_rate, token_rate, free_rate, word_rate, free_from, word_from, reset_at;
  const uint8_t* command_bytes;
  const int64_t *command_at, *weights_at, *data_at;
  const uint8_t *activations, *weight_words, *key_values;
  uint64_t activation_count, weight_count, weight_bytes, key_value_count;
  int32_t* accumulators;   // [words][ROWS]
  int64_t* word_at;        // cycle in which each could first be taken; then when it was
  int64_t* word_taken_at;
  int64_t* free_at;        // weights_free tokens taken, at most `commands`
  uint64_t faults, got, freed, cycles, multiplied, added;
};

extern "C" void zq_enabled(unsigned char multiplies, unsigned char adds) {
  multiplied += multiplies;
  added += adds;
}

extern "C" void zq_array(array_run* r) {
  VerilatedContext context;
  context.randReset(2);
  context.randSeed(int(r->seed) + 1);
  std::mt19937 random(static_cast<unsigned>(r->seed));
  Vengine_array top(&context);
  constexpr size_t lanes = sizeof(top.activations_0_q0);
  Memory activations_0(r->activations, r->activation_count, lanes, top.activations_0_q0, random, 0, 4);
  Memory activations_1(r->activations, r->activation_count, lanes, top.activations_1_q0, random, 1, 4);
  Memory activations_2(r->activations, r->activation_count, lanes, top.activations_2_q0, random, 2, 4);
  Memory activations_3(r->activations, r->activation_count, lanes, top.activations_3_q0, random, 3, 4);
  Memory weights(r->weight_words, r->weight_count, r->weight_bytes, top.weights_q0, random);
  Memory key_value_0(r->key_values, r->key_value_count, lanes, top.key_value_0_q0, random);
  Memory key_value_1(r->key_values + r->key_value_count * lanes, r->key_value_count, lanes, top.key_value_1_q0, random);
  Memory key_value_2(r->key_values + 2 * r->key_value_count * lanes, r->key_value_count, lanes, top.key_value_2_q0, random);
  Giver commands(r->command_at, r->commands, int(r->command_rate), random);
  Giver weight_tokens(r->weights_at, r->weights, int(r->token_rate), random);
  Giver data_tokens(r->data_at, r->data, int(r->token_rate), random);
  std::vector<uint8_t> held(4 * lanes);
  bool waiting = false, free_waiting = false;
  r->faults = r->got = r->freed = 0;

  const auto reset = [&] {
    top.ap_clk = 0;
    top.ap_rst_n = 0;
    top.commands_tvalid = top.weights_ready_tvalid = top.data_ready_tvalid = 0;
    top.weights_free_tready = top.accumulators_tready = 0;
    for (int i = 0; i < 16; ++i) {
      top.eval();
      top.ap_clk = 1;
      top.eval();
      top.ap_clk = 0;
    }
    top.ap_rst_n = 1;
  };
  reset();

  int64_t cycle = -r->reset_at;
  for (; cycle < int64_t(r->limit); ++cycle) {
    if (cycle == 0 && r->reset_at > 0) {
      reset();
      for (auto* giver : {&commands, &weight_tokens, &data_tokens}) giver->restart();
      for (uint64_t i = 0; i < r->words; ++i) r->word_at[i] = -1;
      waiting = free_waiting = false;
      r->faults = r->got = r->freed = 0;
    }
    if (cycle == kSettled) multiplied = added = 0;
    const bool last = commands.next == r->commands && r->got == r->words;
    if (last && cycle >= 0 && cycle > r->word_taken_at[r->words - 1] + 40) break;
    const int64_t since = cycle < 0 ? cycle + r->reset_at : cycle;
    top.commands_tvalid = commands.valid(since);
    if (top.commands_tvalid) std::memcpy(&top.commands_tdata, r->command_bytes + kCommandBytes * commands.next, kCommandBytes);
    top.weights_ready_tvalid = weight_tokens.valid(since);
    top.data_ready_tvalid = data_tokens.valid(since);
    top.weights_free_tready = since >= r->free_from && (r->free_rate >= 256 || int(random() & 255) < r->free_rate);
    top.accumulators_tready = since >= r->word_from && (r->word_rate >= 256 || int(random() & 255) < r->word_rate);
    top.eval();

    if (top.accumulators_tvalid) {
      const auto* word = reinterpret_cast<const uint8_t*>(&top.accumulators_tdata);
      if (waiting && std::memcmp(word, held.data(), held.size()) != 0) ++r->faults;
      std::memcpy(held.data(), word, held.size());
      if (r->got < r->words && r->word_at[r->got] < 0) r->word_at[r->got] = cycle;
      if (top.accumulators_tready) {
        if (r->got < r->words) {
          std::memcpy(r->accumulators + r->got * lanes, word, 4 * lanes);
          r->word_taken_at[r->got] = cycle;
        } else {
          ++r->faults;  // a word too many
        }
        ++r->got;
      }
      waiting = !top.accumulators_tready;
    } else {
      r->faults += waiting;
      waiting = false;
    }
    if (top.weights_free_tvalid) {
      if (top.weights_free_tready && r->freed < r->commands) r->free_at[r->freed++] = cycle;
      free_waiting = !top.weights_free_tready;
    } else {
      r->faults += free_waiting;
      free_waiting = false;
    }

    const bool command = top.commands_tvalid && top.commands_tready;
    const bool weight = top.weights_ready_tvalid && top.weights_ready_tready;
    const bool data = top.data_ready_tvalid && top.data_ready_tready;
    activations_0.edge(top.activations_0_address0, top.activations_0_ce0);
    activations_1.edge(top.activations_1_address0, top.activations_1_ce0);
    activations_2.edge(top.activations_2_address0, top.activations_2_ce0);
    activations_3.edge(top.activations_3_address0, top.activations_3_ce0);
    weights.edge(top.weights_address0, top.weights_ce0);
    key_value_0.edge(top.key_value_0_address0, top.key_value_0_ce0);
    key_value_1.edge(top.key_value_1_address0, top.key_value_1_ce0);
    key_value_2.edge(top.key_value_2_address0, top.key_value_2_ce0);
    top.ap_clk = 1;
    top.eval();
    top.ap_clk = 0;
    activations_0.show();
    activations_1.show();
    activations_2.show();
    activations_3.show();
    weights.show();
    key_value_0.show();
    key_value_1.show();
    key_value_2.show();
    if (command) commands.taken();
    if (weight) weight_tokens.taken();
    if (data) data_tokens.taken();
  }
  r->cycles = uint64_t(cycle);
  r->multiplied = multiplied;
  r->added = added;
  top.final();
}
