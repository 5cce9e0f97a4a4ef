// SPDX-License-Identifier: Apache-2.0
// The top functions (top/), as the testbench calls them.
#pragma once
#include "expand.hpp"
#include "fetch.hpp"
#include "load.hpp"
#include "mac_array.hpp"
#include "store.hpp"
#include "vector_unit.hpp"

void engine_fetch(uint64_t program_address, uint64_t image_address, uint64_t io_address, uint32_t instructions,
                  uint32_t row_blocks, uint32_t* status, uint64_t* detail, zq::beat* hp0, zq::command_streams& commands,
                  hls::stream<zq::token>& done, hls::stream<zq::weights_status>& faults,
                  hls::stream<zq::exit_verdict>& verdicts, uint32_t* clock_output);

void engine_load(hls::stream<zq::load_command>& commands, zq::beat* hp0, hls::stream<zq::token>& parameters_free,
                 hls::stream<zq::token>& parameters_ready, zq::uint<64> parameters[zq::kSlots][zq::kParameterWords],
                 zq::embedding_word embedding[zq::kSlots][zq::kLanes][zq::kEmbeddingWords]);

void engine_weights(hls::stream<zq::weights_command>& commands, zq::beat* hp0, zq::beat* hp1, zq::beat* hp2,
                    zq::beat* hp3, zq::beat* hp4, zq::beat* hp5, hls::stream<zq::token>& weights_free,
                    hls::stream<zq::segment_command>& segments, hls::stream<zq::beat> masks[zq::kPorts],
                    hls::stream<zq::beat> values[zq::kPorts], hls::stream<zq::weights_status>& faults);

void engine_expand(hls::stream<zq::expand_command>& commands, hls::stream<zq::segment_command>& segments,
                   hls::stream<zq::beat> masks[zq::kPorts], hls::stream<zq::beat> values[zq::kPorts],
                   hls::stream<zq::token>& weights_ready, zq::weight_word weights[zq::kWeightWords]);

void engine_array(hls::stream<zq::array_command>& commands, hls::stream<zq::token>& weights_ready,
                  hls::stream<zq::token>& weights_free, hls::stream<zq::token>& data_ready,
                  hls::stream<zq::acc_word>& accumulators, const zq::activation_word activations[zq::kActivationWords],
                  const zq::weight_word weights[zq::kWeightWords],
                  const zq::activation_word key_value[zq::kGroups][zq::kKeyValueWords]);

void engine_vector(hls::stream<zq::vector_command>& commands, hls::stream<zq::token>& parameters_ready,
                   hls::stream<zq::token>& parameters_free, hls::stream<zq::token>& data_ready,
                   hls::stream<zq::acc_word>& accumulators, hls::stream<zq::half_word>& stored,
                   hls::stream<zq::exit_verdict>& verdicts,
                   const zq::uint<64> parameters[zq::kSlots][zq::kParameterWords],
                   const zq::embedding_word embedding[zq::kSlots][zq::kLanes][zq::kEmbeddingWords],
                   zq::activation_word activations[zq::kActivationWords],
                   zq::activation_word key_value[zq::kGroups][zq::kKeyValueWords]);

void engine_store(hls::stream<zq::store_command>& commands, hls::stream<zq::half_word>& words,
                  hls::stream<zq::token>& done, zq::beat* hp0);
