// SPDX-License-Identifier: Apache-2.0
// Memory of the testbench. Co-simulation copies all of it at every call, so it is no larger than its vectors need.
#pragma once

namespace zq {
constexpr int kTestbenchBeats = 16384;  // of 16 bytes
}  // namespace zq
