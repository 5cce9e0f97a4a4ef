// SPDX-License-Identifier: Apache-2.0
// C interface of the simulated engine, loaded by fpga/simulator.py.
#include "engine.hpp"

#include <cstring>
#include <string>

namespace {
thread_local std::string last_message;
}

extern "C" {

uint64_t zq_id() { return zq::kEngineId; }
void* zq_create(int threads) { return new zq::engine(threads); }
int zq_threads(void* e) { return static_cast<zq::engine*>(e)->memories().array.threads(); }
void zq_destroy(void* e) { delete static_cast<zq::engine*>(e); }
const char* zq_message() { return last_message.c_str(); }
int zq_loops() { return static_cast<int>(zq::loop::count); }
void zq_take_trips(uint64_t* out) {
  std::memcpy(out, zq::trip_counts, sizeof(zq::trip_counts));
  std::memset(zq::trip_counts, 0, sizeof(zq::trip_counts));
}

// regions: triples of address, bytes, host pointer. Returns a status_code; *detail is the instruction or the address at fault.
int zq_run(void* e, const uint64_t* regions, int count, uint64_t program, uint64_t image, uint64_t io,
           uint32_t instructions, uint32_t row_blocks, uint64_t seed, uint64_t* detail, uint32_t* clock_output) {
  std::vector<zq::memory_region> memory;
  for (int i = 0; i < count; ++i)
    memory.push_back({regions[3 * i], regions[3 * i + 1], reinterpret_cast<uint8_t*>(regions[3 * i + 2])});
  last_message.clear();
  *detail = 0;
  *clock_output = zq::kNoOutput;
  try {
    const zq::fetch_result r =
        static_cast<zq::engine*>(e)->run(memory, {program, image, io, instructions, row_blocks}, seed, *clock_output);
    *detail = r.detail;
    return static_cast<int>(r.status);
  } catch (const zq::bus_fault& fault) {
    *detail = fault.address;
    return zq::kBusError;
  } catch (const std::exception& fault) {
    last_message = fault.what();
    return zq::kWidthFault;
  }
}

}  // extern "C"
