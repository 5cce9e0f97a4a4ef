// SPDX-License-Identifier: Apache-2.0
// Drives engine_bench.v: five clocks at picosecond resolution, an AXI4-Lite master that watches the protocol, a record
// of every edge of the engine's clock. Called by ctypes (rtl.py).
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "Vengine_bench.h"

namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct clock_source {
  CData* pin;
  int64_t shortest, longest;  // of a phase, high or low; each lasts a random time between
  int64_t next;
};

struct transfer {
  uint32_t address, data, strobe;
  int64_t response, cycle;  // of a write: when it was answered; of a read: when its address was taken
};

struct bench {
  VerilatedContext context;
  std::unique_ptr<Vengine_bench> top;
  std::mt19937_64 random;
  clock_source clocks[5];
  int64_t time = 0, fixed_cycles = 0;
  std::vector<int64_t> edges;  // time of each edge of engine_clk, negative where it falls
  bool engine_clk = false;

  std::vector<transfer> writes, reads;
  size_t aw_sent = 0, w_sent = 0, b_taken = 0, ar_sent = 0, r_taken = 0;
  unsigned pressure = 0;  // percent of the cycles in which a valid or a ready is held back
  uint64_t faults = 0;    // breaches of the protocol by the slave
  bool b_waits = false, r_waits = false;
  uint32_t b_was = 0, r_was = 0, r_was_response = 0;

  bench(uint64_t seed, bool plain_mux) : random(seed) {
    const char* arguments[] = {"bench", plain_mux ? "+plain_mux" : "+glitch_free"};
    context.commandArgs(2, arguments);
    context.randReset(2);
    context.randSeed(int(seed & 0x7FFFFFFF) + 1);
    top = std::make_unique<Vengine_bench>(&context);
    CData* pins[] = {&top->fixed_clk, &top->clk0, &top->clk1, &top->clk2, &top->clk3};
    for (int i = 0; i < 5; ++i) {
      *pins[i] = 0;
      clocks[i] = {pins[i], 0, 0, kNever};
    }
    top->fixed_resetn = 0;
    top->awvalid = top->wvalid = top->bready = top->arvalid = top->rready = 0;
    top->run_cycles = 1;
    top->run_early = top->run_lingers = top->run_hangs = top->run_status = 0;
    top->run_detail = 0;
    top->ask_cycle = top->ask_output = top->ask_again = top->ask_last = 0;
    settle();
  }

  ~bench() { top->final(); }

  uint32_t any() { return uint32_t(random()); }
  bool held_back() { return random() % 100 < pressure; }

  void settle() {
    context.time(uint64_t(time));
    top->eval();
    if (bool(top->engine_clk) != engine_clk) {
      engine_clk = top->engine_clk;
      edges.push_back(engine_clk ? time : -time);
    }
  }

  void set_clock(int index, int64_t shortest, int64_t longest, int64_t first) {
    clock_source& c = clocks[index];
    c.shortest = shortest;
    c.longest = longest;
    c.next = longest > 0 ? time + first : kNever;
    if (longest == 0 && *c.pin) {
      *c.pin = 0;
      settle();
    }
  }

  // The next edge of any clock, if it comes until `limit`.
  bool step(int64_t limit) {
    clock_source* c = &clocks[0];
    for (clock_source& other : clocks)
      if (other.next < c->next) c = &other;
    if (c->next > limit || c->next == kNever) return false;
    time = c->next;
    c->next += c->shortest + int64_t(random() % uint64_t(c->longest - c->shortest + 1));
    *c->pin = !*c->pin;
    if (c == &clocks[0] && *c->pin)
      fixed_edge();
    else
      settle();
    return true;
  }

  void fixed_edge() {
    ++fixed_cycles;
    const bool reset = !top->fixed_resetn;
    const bool aw = top->awvalid && top->awready, w = top->wvalid && top->wready, b = top->bvalid && top->bready;
    const bool ar = top->arvalid && top->arready, r = top->rvalid && top->rready;
    if (!reset) watch();
    b_waits = top->bvalid && !b && !reset;
    b_was = top->bresp;
    r_waits = top->rvalid && !r && !reset;
    r_was = top->rdata;
    r_was_response = top->rresp;
    if (b) {
      if (b_taken >= aw_sent || b_taken >= w_sent) {
        ++faults;
      } else {
        writes[b_taken].response = top->bresp;
        writes[b_taken++].cycle = fixed_cycles;
      }
    }
    if (ar) reads[ar_sent - 1].cycle = fixed_cycles;
    if (r) {
      if (r_taken >= ar_sent) {
        ++faults;
      } else {
        reads[r_taken].response = top->rresp;
        reads[r_taken++].data = top->rdata;
      }
    }
    settle();  // the clock's edge, with the inputs as they were

    // Payloads are noise while they are not valid.
    if (aw) top->awvalid = 0;
    if (!top->awvalid) top->awaddr = any();
    if (!top->awvalid && aw_sent < writes.size() && !held_back()) {
      top->awaddr = writes[aw_sent++].address;
      top->awvalid = 1;
    }
    if (w) top->wvalid = 0;
    if (!top->wvalid) {
      top->wdata = any();
      top->wstrb = any() & 15;
    }
    if (!top->wvalid && w_sent < writes.size() && !held_back()) {
      top->wdata = writes[w_sent].data;
      top->wstrb = writes[w_sent++].strobe;
      top->wvalid = 1;
    }
    if (ar) top->arvalid = 0;
    if (!top->arvalid) top->araddr = any();
    if (!top->arvalid && ar_sent < reads.size() && !held_back()) {
      top->araddr = reads[ar_sent++].address;
      top->arvalid = 1;
    }
    top->bready = !held_back();
    top->rready = !held_back();
    settle();
  }

  // A response that was not taken has to stand as it is.
  void watch() {
    if (b_waits && (!top->bvalid || top->bresp != b_was)) ++faults;
    if (r_waits && (!top->rvalid || top->rdata != r_was || top->rresp != r_was_response)) ++faults;
  }

  bool finished() const { return b_taken == writes.size() && r_taken == reads.size(); }

  // Until all that was asked is answered; false after `cycles` fixed cycles.
  bool finish(int64_t cycles) {
    const int64_t end = fixed_cycles + cycles;
    while (!finished())
      if (fixed_cycles >= end || !step(kNever - 1)) return false;
    return true;
  }

  uint64_t get(const std::string& name) const {
    if (name == "time") return uint64_t(time);
    if (name == "fixed_cycles") return uint64_t(fixed_cycles);
    if (name == "faults") return faults;
    if (name == "irq") return top->irq;
    if (name == "engine_idle") return top->engine_idle;
    if (name == "starts") return top->starts;
    if (name == "moved") return top->moved;
    if (name == "violations") return top->violations;
    if (name == "engine_cycles") return top->engine_cycles;
    if (name == "unit_cycles") return top->unit_cycles;
    if (name == "reset_cycles") return top->reset_cycles;
    return ~0ull;
  }

  bool set(const std::string& name, uint64_t value) {
    if (name == "pressure") pressure = unsigned(value);
    else if (name == "fixed_resetn") top->fixed_resetn = value & 1;
    else if (name == "run_cycles") top->run_cycles = uint32_t(value);
    else if (name == "run_early") top->run_early = uint32_t(value);
    else if (name == "run_lingers") top->run_lingers = uint32_t(value);
    else if (name == "run_hangs") top->run_hangs = value & 1;
    else if (name == "run_status") top->run_status = uint32_t(value);
    else if (name == "run_detail") top->run_detail = value;
    else if (name == "ask_cycle") top->ask_cycle = uint32_t(value);
    else if (name == "ask_output") top->ask_output = uint32_t(value);
    else if (name == "ask_again") top->ask_again = uint32_t(value);
    else if (name == "ask_last") top->ask_last = uint32_t(value);
    else return false;
    settle();
    return true;
  }
};

}  // namespace

extern "C" {

bench* zq_create(uint64_t seed, int plain_mux) { return new bench(seed, plain_mux != 0); }
void zq_destroy(bench* b) { delete b; }
void zq_clock(bench* b, int index, int64_t shortest, int64_t longest, int64_t first) {
  b->set_clock(index, shortest, longest, first);
}
void zq_advance(bench* b, int64_t ps) {
  const int64_t end = b->time + ps;
  while (b->step(end)) {
  }
  b->time = end;
}
void zq_post_write(bench* b, uint32_t address, uint32_t data, uint32_t strobe) {
  b->writes.push_back({address, data, strobe, -1, -1});
}
void zq_post_read(bench* b, uint32_t address) { b->reads.push_back({address, 0, 0, -1, -1}); }
int zq_finish(bench* b, int64_t cycles) { return b->finish(cycles); }
// Response and cycle of the last write.
void zq_last_write(bench* b, int64_t* out) {
  out[0] = b->writes.back().response;
  out[1] = b->writes.back().cycle;
}
// Response, cycle and data of read number `index`.
void zq_read(bench* b, uint64_t index, int64_t* out) {
  const transfer& read = b->reads[index];
  out[0] = read.response;
  out[1] = read.cycle;
  out[2] = read.data;
}
uint64_t zq_get(bench* b, const char* name) { return b->get(name); }
int zq_set(bench* b, const char* name, uint64_t value) { return b->set(name, value); }
void zq_arguments(bench* b, uint32_t* words) { std::memcpy(words, &b->top->arguments, 32); }
uint64_t zq_edges(bench* b, int64_t* out) {
  if (out != nullptr) {
    std::memcpy(out, b->edges.data(), b->edges.size() * sizeof(int64_t));
    b->edges.clear();
    return 0;
  }
  return b->edges.size();
}
}
