// SPDX-License-Identifier: Apache-2.0
// Counts the trips of each pipelined loop, to be held against the cycle model.
#pragma once
#include <cstdint>

#include "loops.hpp"

namespace zq {
inline uint64_t trip_counts[static_cast<int>(loop::count)] = {};
inline void trip(loop l) { ++trip_counts[static_cast<int>(l)]; }
}  // namespace zq
