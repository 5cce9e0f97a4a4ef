// SPDX-License-Identifier: Apache-2.0
// C interface for unit tests: fill and read the memories of an engine, run one command of one unit.
#include "engine.hpp"

#include <cstdio>
#include <initializer_list>

namespace {

zq::engine_memories& memories(void* e) { return static_cast<zq::engine*>(e)->memories(); }

// The commands' fields in the order of their declaration.
zq::vector_command vector_command_of(const int64_t* f) {
  zq::vector_command c;
  c.kind = zq::uint<4>(f[0]);
  c.slot = zq::uint<1>(f[1]);
  c.pop_parameters = zq::uint<1>(f[2]);
  c.push_parameters_free = zq::uint<1>(f[3]);
  c.push_data = zq::uint<3>(f[4]);
  c.tee = zq::uint<1>(f[5]);
  c.row_block = zq::uint<2>(f[6]);
  c.words = zq::uint<11>(f[7]);
  c.width = zq::uint<11>(f[8]);
  c.channel = zq::uint<11>(f[9]);
  c.destination = zq::uint<3>(f[10]);
  c.address = zq::uint<15>(f[11]);
  c.table = zq::uint<3>(f[12]);
  c.unsigned_output = zq::uint<1>(f[13]);
  c.head_width = zq::uint<7>(f[14]);
  c.first_tile = zq::uint<1>(f[15]);
  c.m = zq::uint<8>(f[16]);
  c.s = zq::uint<5>(f[17]);
  c.normalized = zq::uint<1>(f[18]);
  c.item_slot = zq::uint<1>(f[19]);
  c.plain = zq::uint<1>(f[20]);
  c.four_bit = zq::uint<1>(f[21]);
  c.span = zq::uint<8>(f[22]);
  c.key_block = zq::uint<2>(f[23]);
  c.last_tile = zq::uint<1>(f[24]);
  c.predict = zq::uint<1>(f[25]);
  c.clock = zq::uint<1>(f[26]);
  c.last = zq::uint<1>(f[27]);
  c.row_shift = zq::uint<4>(f[28]);
  c.layer = zq::uint<6>(f[29]);
  c.threshold = zq::uint<15>(f[30]);
  c.entropy_m = zq::uint<16>(f[31]);
  c.adaptive = zq::uint<1>(f[32]);
  c.branch = zq::uint<1>(f[33]);
  return c;
}

template <class Word>
void put(Word& word, const int64_t* values, int n) {
  for (int i = 0; i < n; ++i) word[i] = values[i];
}

template <class Word>
void get(const Word& word, int64_t* values, int n) {
  for (int i = 0; i < n; ++i) values[i] = word[i].to_int64();
}

}  // namespace

extern "C" {

void zq_put_activation(void* e, int address, const int64_t* v) { put(memories(e).activations[address], v, zq::kLanes); }
void zq_get_activation(void* e, int address, int64_t* v) { get(memories(e).activations[address], v, zq::kLanes); }
void zq_put_key_value(void* e, int group, int address, const int64_t* v) {
  put(memories(e).key_value[group][address], v, zq::kLanes);
}
void zq_get_key_value(void* e, int group, int address, int64_t* v) {
  get(memories(e).key_value[group][address], v, zq::kLanes);
}
// A word of the weight buffer: the pairs' bytes, then the choices'.
void zq_put_weights(void* e, int word, const int64_t* v) {
  put(memories(e).weights[word], v, zq::kPairs + zq::kChoiceBytes);
}
void zq_get_weights(void* e, int word, int64_t* v) {
  get(memories(e).weights[word], v, zq::kPairs + zq::kChoiceBytes);
}
void zq_put_parameter(void* e, int slot, int i, uint64_t v) { memories(e).parameters[slot][i] = v; }
void zq_put_embedding(void* e, int slot, int lane, int word, const int64_t* v) {
  put(memories(e).embedding[slot][lane][word], v, 16);
}
void zq_put_residual(void* e, int rb, int channel, const int64_t* v) {
  put(memories(e).vector.residual[rb][channel], v, zq::kLanes);
}
void zq_get_residual(void* e, int rb, int channel, int64_t* v) {
  get(memories(e).vector.residual[rb][channel], v, zq::kLanes);
}

// One array command: w8, unsigned operand, keys/values, weights, operand, key_value, k, words, zero, bound.
int zq_array(void* e, const int64_t* f, int64_t* out) {
  try {
    hls::stream<zq::array_command> commands;
    hls::stream<zq::token> ready, free, data;
    hls::stream<zq::acc_word> accumulators;
    zq::array_command c;
    c.w8 = zq::uint<1>(f[0]);
    c.unsigned_operand = zq::uint<1>(f[1]);
    c.keys_values = zq::uint<1>(f[2]);
    c.weights = zq::uint<14>(f[3]);
    c.operand = zq::uint<15>(f[4]);
    c.key_value = zq::uint<13>(f[5]);
    c.k = zq::uint<13>(f[6]);
    c.words = zq::uint<8>(f[7]);
    c.zero = zq::uint<1>(f[8]);
    c.bound = zq::uint<2>(f[9]);
    commands.write(c);
    zq::engine_memories& m = memories(e);
    zq::array_unit(commands, ready, free, data, accumulators, m.activations, m.weights, m.key_value, m.array);
    for (int n = 0; !accumulators.empty(); ++n) get(accumulators.read(), out + n * zq::kLanes, zq::kLanes);
    return 0;
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "%s\n", fault.what());
    return zq::kWidthFault;
  }
}

// One vector command on acc_words accumulator words; returns the number of words it sent to store, or -1. verdict: live,
// choose and output, where it sends one.
int zq_vector(void* e, const int64_t* f, const int64_t* acc, int acc_words, int64_t* stored, int64_t* verdict) {
  try {
    hls::stream<zq::vector_command> commands;
    hls::stream<zq::token> ready, free, data;
    hls::stream<zq::acc_word> accumulators;
    hls::stream<zq::half_word> out;
    hls::stream<zq::exit_verdict> verdicts;
    commands.write(vector_command_of(f));
    if (f[2] == 1) ready.write(zq::token(1));
    for (int n = 0; n < acc_words; ++n) {
      zq::acc_word w;
      put(w, acc + n * zq::kLanes, zq::kLanes);
      accumulators.write(w);
    }
    zq::engine_memories& m = memories(e);
    zq::vector_unit(commands, ready, free, data, accumulators, out, verdicts, m.parameters, m.embedding,
                    m.activations, m.key_value, m.vector);
    if (!accumulators.empty()) return -2;
    if (!verdicts.empty()) {
      const zq::exit_verdict v = verdicts.read();
      verdict[0] = v.live.to_int64();
      verdict[1] = v.choose.to_int64();
      verdict[2] = v.output.to_int64();
    }
    int n = 0;
    for (; !out.empty(); ++n) get(out.read(), stored + n * zq::kLanes, zq::kLanes);
    return n;
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "%s\n", fault.what());
    return -1;
  }
}

// One tile through weights and, unless it is only kept, expand. f: kind, beat address, beats a port, resident word, K,
// compressed, instruction, first word of the weight buffer. left: segments, mask beats and value beats that expand did
// not take. Returns a status_code.
int zq_weights_tile(void* e, const uint64_t* regions, int count, const int64_t* f, int64_t* left) {
  std::vector<zq::memory_region> memory;
  for (int i = 0; i < count; ++i)
    memory.push_back({regions[3 * i], regions[3 * i + 1], reinterpret_cast<uint8_t*>(regions[3 * i + 2])});
  try {
    zq::memory_port port[zq::kMaxPorts];
    for (zq::memory_port& p : port) p = zq::memory_port(&memory);
    zq::streams s;
    zq::weights_command c;
    c.kind = zq::uint<2>(f[0]);
    c.beat_address = zq::uint<60>(f[1]);
    c.beats = zq::uint<16>(f[2]);
    c.resident = zq::uint<16>(f[3]);
    c.k = zq::uint<13>(f[4]);
    c.compressed = zq::uint<1>(f[5]);
    c.instruction = zq::uint<16>(f[6]);
    s.commands.weights.write(c);
    zq::engine_memories& m = memories(e);
    zq::weights_unit(s.commands.weights, port[0], port[1], port[2], port[3], port[4], port[5], s.weights_free,
                     s.segments, s.masks, s.values, s.faults, m.weights_of_tiles);
    if (f[0] != zq::kKeep) {
      zq::expand_command x;
      x.k = zq::uint<13>(f[4]);
      x.word = zq::uint<14>(f[7]);
      s.commands.expand.write(x);
      zq::expand_unit(s.commands.expand, s.segments, s.masks, s.values, s.weights_ready, m.weights);
    }
    left[0] = s.segments.size();
    left[1] = left[2] = 0;
    for (int p = 0; p < zq::kPorts; ++p) {
      left[1] += s.masks[p].size();
      left[2] += s.values[p].size();
    }
    return zq::kOk;
  } catch (const zq::bus_fault&) {
    return zq::kBusError;
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "%s\n", fault.what());
    return zq::kWidthFault;
  }
}

// What weights answers at the end of a program: code and instruction of its first fault.
void zq_weights_status(void* e, int64_t* code, int64_t* instruction) {
  std::vector<zq::memory_region> memory;
  zq::memory_port port(&memory);
  zq::streams s;
  zq::weights_command c;
  c.kind = zq::uint<2>(int(zq::kWeightsDrain));
  s.commands.weights.write(c);
  zq::weights_unit(s.commands.weights, port, port, port, port, port, port, s.weights_free, s.segments, s.masks,
                   s.values, s.faults, memories(e).weights_of_tiles);
  const zq::weights_status status = s.faults.read();
  *code = status.code.to_int();
  *instruction = status.instruction.to_int();
}

// The commands that fetch makes of a program, unit 0 load, 1 weights, 2 expand, 3 array, 4 vector, 5 store: their
// fields in rows of kFields. Returns how many there are; regions as in zq_run. live: what each EXIT leaves, in order.
constexpr int kFields = 20;

struct given_verdicts {
  const int64_t* live;
  zq::exit_verdict read() {
    zq::exit_verdict v;
    v.live = zq::uint<4>(*live++);
    return v;
  }
};

int zq_fetch(const uint64_t* regions, int count, uint64_t program, uint64_t image, uint64_t io, uint32_t instructions,
             uint32_t row_blocks, const int64_t* live, int unit, int64_t* out, int capacity) {
  std::vector<zq::memory_region> memory;
  for (int i = 0; i < count; ++i)
    memory.push_back({regions[3 * i], regions[3 * i + 1], reinterpret_cast<uint8_t*>(regions[3 * i + 2])});
  zq::memory_port port(&memory);
  zq::command_streams s;
  given_verdicts verdicts = {live};
  uint32_t clock_output;
  zq::fetch_program({program, image, io, instructions, row_blocks}, port, s, verdicts, &clock_output);
  int n = 0;
  const auto row = [&](std::initializer_list<int64_t> fields) {
    int i = 0;
    if (n < capacity)
      for (int64_t f : fields) out[n * kFields + i++] = f;
    ++n;
  };
  if (unit == 0)
    while (!s.load.empty()) {
      const zq::load_command c = s.load.read();
      row({c.kind.to_int(), c.beats.to_int(), c.slot.to_int(), c.pop_parameters_free.to_int()});
    }
  if (unit == 1)
    while (!s.weights.empty()) {
      const zq::weights_command c = s.weights.read();
      row({c.kind.to_int(), c.beats.to_int(), c.k.to_int(), c.resident.to_int(), c.compressed.to_int(),
           c.pop_weights_free.to_int(), c.instruction.to_int()});
    }
  if (unit == 2)
    while (!s.expand.empty()) {
      const zq::expand_command c = s.expand.read();
      row({c.k.to_int(), c.word.to_int()});
    }
  if (unit == 3)
    while (!s.array.empty()) {
      const zq::array_command c = s.array.read();
      row({c.k.to_int(), c.words.to_int(), c.w8.to_int(), c.unsigned_operand.to_int(), c.keys_values.to_int(),
           c.weights.to_int(), c.pop_weights_ready.to_int(), c.push_weights_free.to_int(), c.pop_data.to_int(),
           c.zero.to_int(), c.bound.to_int()});
    }
  if (unit == 4)
    while (!s.vector.empty()) {
      const zq::vector_command c = s.vector.read();
      row({c.kind.to_int(), c.words.to_int(), c.slot.to_int(), c.row_block.to_int(), c.width.to_int(),
           c.first_tile.to_int(), c.normalized.to_int(), c.tee.to_int(), c.pop_parameters.to_int(),
           c.push_parameters_free.to_int(), c.push_data.to_int(), c.adaptive.to_int(), c.plain.to_int(),
           c.destination.to_int(), c.span.to_int(), c.key_block.to_int(), c.last_tile.to_int(), c.branch.to_int()});
    }
  if (unit == 5)
    while (!s.store.empty()) {
      const zq::store_command c = s.store.read();
      row({c.words.to_int(), c.wide.to_int(), c.end.to_int()});
    }
  return n;
}

// (Q8) for one variance.
void zq_inverse_root(uint64_t variance, int64_t* r, int64_t* h) {
  const zq::inverse_root root = zq::inverse_square_root(zq::variance_t(variance));
  *r = root.r.to_int64();
  *h = root.h.to_int64();
}

}  // extern "C"
