// SPDX-License-Identifier: Apache-2.0
// What the simulation computes the array's cells with: blocks in vector registers, on several threads.
#pragma once
#include "blocked_cells.hpp"

namespace zq {
using array_cells = blocked_cells;
}
