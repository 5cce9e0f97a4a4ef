// SPDX-License-Identifier: Apache-2.0
// Native build: values live in the machine's integers and are trusted to fit.
#pragma once

namespace zq {
constexpr bool kCheckWidths = false;
}
