// SPDX-License-Identifier: Apache-2.0
// Trip counting exists in simulation only; for synthesis it is nothing.
#pragma once
#include "loops.hpp"

namespace zq {
inline void trip(loop) {}
}  // namespace zq
