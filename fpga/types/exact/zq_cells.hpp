// SPDX-License-Identifier: Apache-2.0
// What the simulation computes the array's cells with: the kernel's own, in their declared widths.
#pragma once
#include "kernel_cells.hpp"

namespace zq {
using array_cells = kernel_cells;
}
