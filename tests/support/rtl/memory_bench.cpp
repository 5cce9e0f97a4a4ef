// SPDX-License-Identifier: Apache-2.0
// Clocks memory.v through columns of stimuli and gives read_q as it is before each edge. Called by ctypes (rtl.py).
#include <cstdint>
#include <cstring>

#include "Vmemory.h"

extern "C" void zq_memory(uint64_t seed, uint64_t cycles, const uint32_t* write_address, const uint8_t* write_ce,
                          const uint8_t* write_we, const uint8_t* write_d, const uint32_t* read_address,
                          const uint8_t* read_ce, uint8_t* read_q) {
  VerilatedContext context;
  context.randReset(2);
  context.randSeed(int(seed) + 1);
  Vmemory top(&context);
  constexpr size_t bytes = sizeof(top.read_q);
  top.clk = 0;
  top.eval();
  for (uint64_t i = 0; i < cycles; ++i) {
    top.write_address = write_address[i];
    top.write_ce = write_ce[i];
    top.write_we = write_we[i];
    std::memcpy(&top.write_d, write_d + i * bytes, bytes);
    top.read_address = read_address[i];
    top.read_ce = read_ce[i];
    top.eval();
    std::memcpy(read_q + i * bytes, &top.read_q, bytes);
    top.clk = 1;
    top.eval();
    top.clk = 0;
    top.eval();
  }
  top.final();
}
