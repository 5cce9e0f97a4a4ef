// SPDX-License-Identifier: Apache-2.0
// The memory bus of the emulated device: addresses resolve to host buffers, anything else is a bus error.
#pragma once
#include <cstdint>
#include <vector>

#include "types.hpp"

namespace zq {

struct bus_fault {
  uint64_t address;
};

struct memory_region {
  uint64_t address;
  uint64_t bytes;
  uint8_t* data;
};

static_assert(sizeof(beat) == 16, "a beat is 128 bits in simulation too");

// Stands where the hardware has a pointer to 128-bit words: index = byte address / 16.
class memory_port {
 public:
  memory_port() = default;
  explicit memory_port(const std::vector<memory_region>* regions) : regions_(regions) {}

  beat& operator[](uint64_t index) {
    const uint64_t address = index * 16;
    if (last_ == nullptr || !holds(*last_, address)) {
      last_ = nullptr;
      for (const memory_region& r : *regions_)
        if (holds(r, address)) last_ = &r;
      if (last_ == nullptr) throw bus_fault{address};
    }
    return *reinterpret_cast<beat*>(last_->data + (address - last_->address));
  }

 private:
  static bool holds(const memory_region& r, uint64_t address) {
    return address >= r.address && address - r.address + 16 <= r.bytes;
  }
  const std::vector<memory_region>* regions_ = nullptr;
  const memory_region* last_ = nullptr;
};

}  // namespace zq
