// SPDX-License-Identifier: Apache-2.0
// Integers of an exact width, as the hardware has them: csim and Vitis HLS.
#pragma once
#include <ap_int.h>

namespace zq {
template <int W>
using sint = ap_int<W>;
template <int W>
using uint = ap_uint<W>;
}  // namespace zq
