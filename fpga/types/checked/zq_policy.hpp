// SPDX-License-Identifier: Apache-2.0
// Checked build: every assignment verifies the declared width and throws where a value leaves it.
#pragma once

namespace zq {
constexpr bool kCheckWidths = true;
}
