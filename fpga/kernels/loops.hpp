// SPDX-License-Identifier: Apache-2.0
// Names of the pipelined loops, the same in the cycle model (fpga/cycles.py) and the reports.
#pragma once

namespace zq {
enum class loop {
  load_weights,
  expand_words,
  load_parameters,
  load_table,
  load_rows,
  load_neighbours,
  load_embedding,
  array_mac,
  array_drain,
  vector_copy,
  vector_embed,
  vector_linear,
  vector_turn,
  vector_scores,
  vector_softmax,
  vector_reciprocal,
  vector_normalize,
  vector_context,
  norm_statistics,
  norm_apply,
  gather,
  exit_logits,
  exit_entropy,
  exit_record,
  store_words,
  count
};
}  // namespace zq
