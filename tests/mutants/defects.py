# SPDX-License-Identifier: Apache-2.0
"""Defects that the tests must find: one replacement in one file each, and the test that has to fail with it."""

from dataclasses import dataclass

ARRAY = "tests/fpga/test_mac_array.py -k native-128"
CHECKED = "tests/fpga/test_mac_array.py -k checked-128"
THREADS = "tests/fpga/test_simulator.py"
BLOCKED = "fpga/sim/blocked_cells.hpp"
VECTOR = "tests/fpga/test_vector_unit.py -k native"
PASS = "tests/host/test_whole_pass.py -k native-zcu102"
FETCH = "tests/fpga/test_fetch.py"
EMBED = "tests/fpga/test_embed.py -k native"
ADAPTIVE = "tests/quant/test_adaptivfloat.py"
TASKS = "tests/quant/test_task_artifact.py"
WEIGHTS = "tests/fpga/test_weights.py -k native-128"
DRIVER = "tests/host/test_driver.py"
ENGINE = "tests/host/test_engine.py"
FAULTS = "tests/host/test_faults.py"
FLEET = "tests/host/test_fleet.py"
RESIDENT = "tests/host/test_resident.py"
TARGET = "tests/host/test_target.py"
BUILD = "tests/fpga/build/"
DESIGN = "tests/fpga/test_block_design.py"
BENCH = "tests/fpga/test_testbench.py"
POWER = "tests/fpga/test_power.py"
ENERGY = "tests/fpga/test_energy.py"
DVFS = "tests/fpga/test_dvfs.py"
EARLY = "tests/host/test_early_exit.py"
ZEROS = "tests/host/test_zero_steps.py"
CONTROL = "tests/fpga/test_engine_control.py -k not lint"
CHOICE = "tests/fpga/test_engine_control.py -k Choice and not ratio"
GATED = "tests/fpga/test_mac_array_rtl.py -k (zero_products and small) or first_step"
STRAIGHT = "tests/quant/test_straight_through.py"
TRAINABLE = "tests/quant/test_trainable.py"
PRUNING = "tests/quant/test_pruning.py"
THRESHOLDS = "tests/quant/test_thresholds.py"
PREDICTOR = "tests/quant/test_exit_predictor.py"
GOLDEN_EARLY = "tests/quant/test_golden_model.py"
LEARNT = "tests/quant/test_spans.py"
MASKS = "tests/quant/test_masks.py"
ERRORS = "tests/quant/test_bit_errors.py"
ROBUSTNESS = "tests/quant/test_robustness.py"
SEARCH = "tests/host/test_search.py"
SEARCH_COSTS = "tests/host/test_search_costs.py"
SWITCHING = "tests/fpga/test_switching.py"
MEMORY_PLAN = "tests/host/test_memory_plan.py"
ARRAY_RTL = "tests/fpga/test_mac_array_rtl.py -k small or every_stream or late or nobody or four_tiles or reset"
BRANCH = "tests/fpga/test_vector_unit.py -k native and branch"
ADAPTED = "tests/host/test_whole_pass.py -k pass_equals and native-zcu102 and adapters"
QUANTIZED = "tests/quant/test_quantize_tasks.py"
KERNELS = "fpga/kernels/"
RTL = "fpga/rtl/"
EXIT = "tests/fpga/test_exit.py -k native"
QUEUE = "tests/host/test_queue_pass.py -k native-zcu102"
EXPANSION = "tests/host/test_expansion.py -k row_blocks_that_end"
LEAVING = "tests/host/test_leaving.py -k native and zcu102"
SPANS = "tests/host/test_leaving.py -k spans_equal and native and zcu102"
IN_USE = "tests/host/test_tasks.py"
CHOSEN_PASS = "tests/host/test_resident.py -k pass_equals and native-zcu102 and bound"
CYCLES = "tests/fpga/test_cycles.py -k verdict or all_have_left or live_row or narrow_heads"


@dataclass(frozen=True)
class Defect:
    """`old` occurs exactly once in `file` and becomes `new`; `test` (pytest arguments) must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


DEFECTS = (
    # The array.
    Defect("no borrow correction", KERNELS + "mac_array.hpp", "(p + product_sum_t(1 << (kFieldShift - 1))) >>", "p >>", ARRAY),
    Defect("K - 1 steps", KERNELS + "mac_array.hpp", "k < k_count; ++k", "k < k_count - 1; ++k", ARRAY),
    Defect("nibbles swapped", KERNELS + "mac_array.hpp", "sint<6>(b & byte_t(15))", "sint<6>((b >> 4) & byte_t(15))", ARRAY),
    Defect("low nibble signed in w8", KERNELS + "mac_array.hpp", "(!w8 && low > 7", "((w8 || !w8) && low > 7", ARRAY),
    Defect("high nibble weighs 8", KERNELS + "mac_array.hpp", "(sint<31>(hi) << 4) + lo", "(sint<31>(hi) << 3) + lo", ARRAY),
    Defect("unsigned operand read as signed", KERNELS + "mac_array.hpp", "is_unsigned ? activation_t(b) :", "is_unsigned && b < 0 ? activation_t(b) :", ARRAY),
    Defect("accumulators not cleared", KERNELS + "mac_array.hpp", "p[j][t] = product_sum_t(0);", "(void)j;", CHECKED),
    # The native build's cells and threads.
    Defect("native sums not cleared", BLOCKED, "    cleared_ = true;", "", ARRAY),
    Defect("native sums cleared in a long tile", BLOCKED, "cleared_ && first == 0", "first == 0", THREADS),
    Defect("a thread's last slice left out", BLOCKED, "(n + 1) * kSlices / parts); });", "(n + 1) * kSlices / parts - (parts > 1)); });", THREADS),
    Defect("another group's key/values", BLOCKED, "&key_value_[j / kLanes]", "&key_value_[0 * j]", ARRAY),
    Defect("threads not waited for", "fpga/sim/worker_pool.hpp", "!= parts; ++spins) pause(spins);", "< parts - 1; ++spins) pause(spins);", THREADS + " -k waited_for"),
    Defect("a fork waits for its threads", "fpga/sim/worker_pool.hpp", "if (pool->process_ == getpid()) delete pool;", "delete pool;", THREADS),
    Defect("RTL: no borrow correction", RTL + "drain_lane.sv", "hi <= p[46:23] + {23'd0, p[22]};", "hi <= p[46:23];", ARRAY_RTL),
    Defect("RTL: sums leave a cycle early", RTL + "array_control.sv", "assign here = ended[4];", "assign here = ended[3];", ARRAY_RTL),
    Defect("RTL: tiles start without room", RTL + "array_control.sv", "room_ok <= room >= {2'b00, next_words};", "room_ok <= 1'b1;", ARRAY_RTL),
    Defect("RTL: tiles start into the drain", RTL + "array_control.sv", "drain_ok <= drain_left <= {1'b0, next_k} + 14'd2;", "drain_ok <= 1'b1;", ARRAY_RTL),
    Defect("RTL: data tokens not waited for", RTL + "array_control.sv", "data_ok <= data >= {2'b00, next_pop_data};", "data_ok <= 1'b1;", ARRAY_RTL),
    Defect("RTL: first step adds", RTL + "array_control.sv", ".d(!run_first), .q(add)", ".d(run_first || !run_first), .q(add)", ARRAY_RTL),
    Defect("RTL: bubble is no zero", RTL + "activation_edge.sv", "a <= take ?", "a <= take || !take ?", ARRAY_RTL),
    Defect("bench batching: answers of the last layer", "host/bench/batching.py", "right[np.arange(len(layers)), layers - 1]", "right[:, -1]", "tests/host/bench/test_batching.py -k as_the_engine"),
    Defect("bench batching: nobody leaves", "host/bench/batching.py", "verdicts = leaving_at(layer, blocks) if leaves else None", "verdicts = None", "tests/host/bench/test_batching.py -k as_the_engine"),
    Defect("RTL: token before the last word is read", RTL + "array_control.sv", "{2'b00, last && push_weights}", "{2'b00, start && next_push_weights}", ARRAY_RTL),
    Defect("RTL: choices a row late", RTL + "mac_group.sv", "block[8*choice_in[2*(i/2)+:2]+:8]", "block[8*choice_out[2*(i/2)+:2]+:8]", ARRAY_RTL),
    Defect("RTL: a block of one step", RTL + "array_control.sv", "assign block_last = of_block == run_bound;", "assign block_last = of_block != 2'd0;", ARRAY_RTL),
    Defect("RTL: choices where there is no bound", RTL + "operands.sv", "choice <= chosen && !keys_values ? choices : '0;", "choice <= choices;", ARRAY_RTL),
    Defect("RTL: always the first bank", RTL + "array_control.sv", "run_chosen ? 2'd0 : activations_word[1:0]}", "2'd0}", ARRAY_RTL),
    Defect("RTL: a block read in its second step", RTL + "array_control.sv", "{4{of_block == 2'd1}}", "{4{block_last}}", ARRAY_RTL),
    Defect("RTL: zeros of the first activation of a block", RTL + "mac_group.sv", "block_zero[choice_out[2*(i/2)+:2]]", "block_zero[0]", GATED),
    Defect("choices of the next group", KERNELS + "mac_array.hpp", "const int shift = 2 * (g % 4);", "const int shift = 2 * ((g + 1) % 4);", ARRAY),
    Defect("a block of a step more", KERNELS + "mac_array.hpp", "of_block + 1 >= bound", "of_block >= bound", ARRAY),
    Defect("blocks of the emulator's cells start over", BLOCKED, "first_of_step[steps] = entries - words;", "first_of_step[steps] = 0;", ARRAY),
    Defect("choices of a segment before", KERNELS + "expand.hpp", "chosen ? byte_of(mask[p], 2 * (i % kChoiceSteps) + j) : byte_t(0)", "byte_of(mask[p], 2 * (i % kChoiceSteps) + j)", WEIGHTS),
    Defect("chosen segments of any length", KERNELS + "weights.hpp", "if (kind == kChosenSegment && beats != k + uint32_t(groups)) return kBadSegment;", "", WEIGHTS),
    Defect("a bound that the GEMM does not know of", KERNELS + "fetch_weights.hpp", "(e.bound != 0 && i.op() == kGemmOp && !chosen(i))", "false", FETCH),
    Defect("blocks that begin anywhere", KERNELS + "fetch.hpp", "w[5] % kBlock == 0 && w[6] % kBlock == 0", "w[5] % kBlock == 0", FETCH),
    Defect("the array not told of the bound", KERNELS + "fetch_gemm.hpp", "m.bound = uint<2>(loads.bound);", "", CHOSEN_PASS),
    Defect("chosen wherever there is a bound", "quant/compressed.py", "nibbles.shape[1] + blocks.shape[1] < k + plain.shape[1]", "blocks.shape[1] > 0", "tests/quant/test_compressed.py"),
    Defect("a block's activations counted by steps", "fpga/tile_commands.py", "return -(-self.k // self.bound) * BLOCK if self.bound else self.k", "return self.k", "tests/host/test_resident.py -k share_of_the_steps"),
    Defect("gating of chosen tiles as if none chose", "fpga/gating.py", "filled[taken[: len(used)]]", "filled[: used.shape[1]]", "tests/fpga/test_gating.py"),
    # Rounding and saturation.
    Defect("rounding off by half", KERNELS + "round.hpp", "const wide half = wide(1) << (s - 1);", "const wide half = wide(0);", VECTOR),
    Defect("int8 saturates at 128", KERNELS + "linear.hpp", "(is_unsigned ? 255 : 127)", "(is_unsigned ? 255 : 128)", VECTOR),
    Defect("int16 saturates at -32768", KERNELS + "vector_state.hpp", "clamp<16>(x, -32767, 32767)", "clamp<16>(x, -32768, 32767)", VECTOR),
    Defect("bias left out", KERNELS + "round.hpp", "const sint<kAccBits> biased = acc[t] + bias;", "const sint<kAccBits> biased = acc[t]; (void)bias;", VECTOR),
    Defect("table index off by one", KERNELS + "linear.hpp", "(y + sint<9>(128))", "(y + sint<9>(127))", VECTOR + " and activation"),
    # Softmax.
    Defect("row minimum for the maximum", KERNELS + "softmax.hpp", "x[t] > maximum[t]) maximum", "x[t] < maximum[t]) maximum", VECTOR),
    Defect("masked keys enter the maximum", KERNELS + "softmax.hpp", "if (sees(state, row + t, first + j, span) && x[t]", "if (x[t]", VECTOR),
    Defect("masked keys enter the sum", KERNELS + "softmax.hpp", "e[t] = seen ? state.table", "e[t] = seen || !seen ? state.table", VECTOR),
    Defect("key range ends one late", KERNELS + "softmax.hpp", "state.key_end[row] > key", "state.key_end[row] >= key", VECTOR),
    Defect("reciprocal truncated", KERNELS + "softmax.hpp", "uint<32>(quotient + uint<1>(1)) >> 1", "uint<32>(quotient) >> 1", VECTOR),
    Defect("normalized form over 256", KERNELS + "softmax.hpp", "sint<9>(255)", "sint<10>(256)", VECTOR),
    Defect("context keeps another item's sum", KERNELS + "softmax.hpp", "acc[t] * state.reciprocal[item][t]", "acc[t] * state.reciprocal[1 - item][t]", VECTOR),
    # Layer norm.
    Defect("no Newton step", KERNELS + "layer_norm.hpp", "const sint<21> r = sint<21>(rd >> 31);", "const sint<21> r = sint<21>(r0); (void)rd;", VECTOR),
    Defect("variance without the mean", KERNELS + "layer_norm.hpp", "state.square_sum[rb][t] - sum * sum", "state.square_sum[rb][t] - sint<27>(0) * sum", VECTOR),
    Defect("entries repeat the whole value", KERNELS + "layer_norm.hpp", "      const sint<9> entry = clamp<9>(rest[t], -127, 127);\n      rest[t] = sint<25>(rest[t] - entry);\n      out[t] = to_byte(entry);\n    }\n    activations[base + n] = out;\n    if (!p.continues) {", "      const sint<9> entry = clamp<9>(rest[t], -127, 127);\n      out[t] = to_byte(entry);\n    }\n    activations[base + n] = out;\n    if (!p.continues) {", VECTOR),
    Defect("sums not cleared", KERNELS + "linear.hpp", "if (c.first_tile == 1) clear_sums(state, rb);", "", VECTOR),
    Defect("gather takes the next row", KERNELS + "layer_norm.hpp", "[channel][row % kLanes]", "[channel][(row + 1) % kLanes]", VECTOR),
    # ALBERT's embedding (Q20), shared matrices, one answer a token.
    Defect("plain ignored by the vector unit", KERNELS + "layer_norm.hpp", "const bool plain = c.plain == 1;", "const bool plain = c.plain == 1 && width == 0;", VECTOR + " and plain"),
    Defect("gamma applied in plain mode", KERNELS + "layer_norm.hpp", "y[t] = x[t];", "y[t] = clamp_half<24>(sint<24>(x[t] * p.gamma));", VECTOR + " and plain"),
    Defect("plain dropped by fetch", KERNELS + "fetch_gemm.hpp", "v.plain = uint<1>(i.flag(17) ? 1 : 0);", "v.plain = uint<1>(0);", PASS + "-albert"),
    Defect("mapping adds the embedding's norm", "host/compiler.py", '"mapping", k, (0, 1)', '"mapping", k, (128, 8)', PASS + "-albert"),
    Defect("every layer uses layer 0's matrices", "host/compiler.py", 'owner = f"{self.owner.get(layer, layer)}.{matrix}" if layer', 'owner = f"layers.0.{matrix}" if layer', PASS + "-albert"),
    Defect("bias of the owner in every place", "host/memory_image.py", 'bias = t[f"{name}.bias"]', 'bias = t[f"{owner}.bias"]', PASS + "-albert"),
    Defect("answers of all row blocks in one place", KERNELS + "fetch_gemm.hpp", "uint64_t(rb) * channels + first", "uint64_t(rb - rb) * channels + first", PASS + "-tokens"),
    # Memories and movement.
    Defect("corner turn reads the plane being written", KERNELS + "linear.hpp", "plane[1 - phase][j]", "plane[phase][j]", VECTOR),
    Defect("keys of a row block in the wrong group", KERNELS + "linear.hpp", "key_value[rb % kKeyGroups][key_base", "key_value[(rb + 1) % kKeyGroups][key_base", VECTOR),
    Defect("weight ports swapped", KERNELS + "expand.hpp", "word[16 * p + j]", "word[16 * (p ^ 1) + j]", WEIGHTS),
    Defect("4-bit embedding nibbles swapped", KERNELS + "embed.hpp", "n % 2 == 0 ? byte_t", "n % 2 == 1 ? byte_t", PASS + "-four-bit"),
    # AdaptivFloat words (Q24).
    Defect("adaptive: the same code for every bit", KERNELS + "embed.hpp", "if (stored_code) next[t] = row_byte(next[t] + uint<1>(1));", "", EMBED),
    Defect("adaptive: a code for channels without a bit too", KERNELS + "embed.hpp", "if (stored_code) next[t]", "if (adaptive && next[t] < codes_end) next[t]", EMBED),
    Defect("adaptive: bits of a mask from the wrong end", KERNELS + "embed.hpp", ">> (n % 8)", ">> (7 - n % 8)", EMBED),
    Defect("adaptive: the first beat of the mask for all channels", KERNELS + "embed.hpp", "embedding[slot][t][begin / kMaskChannels]", "embedding[slot][t][0]", EMBED),
    Defect("adaptive: a code beyond the row", KERNELS + "embed.hpp", "bit && next[t] < codes_end", "bit && next[t] < codes_end + uint<1>(1)", EMBED + " and corrupt"),
    Defect("adaptive: code 0 is 16", KERNELS + "embed.hpp", "absolute == 0 ? uint<12>(0) :", "code == 128 ? uint<12>(0) :", EMBED),
    Defect("adaptive: sign lost", KERNELS + "embed.hpp", "code > 127 ? table_value(table_value(0) - size)", "code > 255 ? table_value(table_value(0) - size)", EMBED),
    Defect("adaptive: dropped by fetch", KERNELS + "fetch_gemm.hpp", "v.adaptive = uint<1>(i.flag(20) ? 1 : 0);", "v.adaptive = uint<1>(0);", PASS + "-adaptive"),
    Defect("adaptive: rows longer than the buffer accepted", KERNELS + "fetch.hpp", "kEmbeddingWords * 16);", "kEmbeddingWords * 32);", FETCH),
    Defect("adaptive: a row without a scale accepted", KERNELS + "fetch.hpp", "within(bytes, (mask + 1) * 16,", "within(bytes, mask * 16,", FETCH),
    Defect("adaptive: loops of the mask not timed", "fpga/cycles.py", "if c.adaptive:", "if c.adaptive and c.words < 0:", "tests/fpga/test_cycles.py -k adaptive"),
    Defect("adaptive: mask packed from the other end", "host/memory_image.py", 'bitorder="little"', 'bitorder="big"', "tests/host/test_compiler.py -k adaptive"),
    Defect("adaptive: as many codes as the first row", "host/layouts.py", "np.count_nonzero(codes, axis=1).max()", "np.count_nonzero(codes, axis=1)[0]", "tests/host/test_compiler.py -k adaptive"),
    Defect("adaptive: ties to the smaller size", "quant/adaptivfloat.py", 'side="right"', 'side="left"', ADAPTIVE),
    Defect("adaptive: bias of an octave too few", "quant/adaptivfloat.py", "math.frexp(peak)[1] - 1 - TOP_EXPONENT", "math.frexp(peak)[1] - 2 - TOP_EXPONENT", ADAPTIVE),
    Defect("adaptive: the smallest values kept", "quant/adaptivfloat.py", "np.argsort(-np.abs(rows)", "np.argsort(np.abs(rows)", ADAPTIVE),
    Defect("adaptive: factor rounded", "quant/adaptivfloat.py", "return max(least, step / float(decode_factor(m, s)))", "return least", ADAPTIVE),
    Defect("adaptive: code 128 accepted", "quant/artifact_tensors.py", 't["embeddings.word.q"] != 128', 't["embeddings.word.q"] != 256', "tests/quant/test_artifact.py -k adaptivfloat"),
    # One backbone and its tasks.
    # Adapters on the engine, and their integers.
    Defect("branch: -128 is a code", KERNELS + "linear.hpp", "round_shift<25>(scaled, f.s), -127, 127)", "round_shift<25>(scaled, f.s), -128, 127)", BRANCH),
    Defect("branch: written for every residual", KERNELS + "linear.hpp", "if (branch) activations", "if (branch || words > 0) activations", BRANCH),
    Defect("branch: by the product's own factor", KERNELS + "vector_state.hpp", "(word >> 46)", "(word >> 32)", BRANCH),
    Defect("branch: of the sum, not of the product", KERNELS + "linear.hpp", "branch_operand(product, p.branch)", "branch_operand(x, p.branch)", BRANCH),
    Defect("branch: beyond the activation memory", KERNELS + "fetch.hpp", "((w[7] != kToActivation && !branch(i)) ||", "(w[7] != kToActivation ||", FETCH + " -k gemm_field"),
    Defect("branch: its row block's place forgotten", KERNELS + "fetch_gemm.hpp", "destination == kToActivation || branch(i))", "destination == kToActivation)", ADAPTED),
    Defect("adapters: the residual halved on the way", "host/compiler.py", "IDENTITY = 128, 7", "IDENTITY = 128, 8", ADAPTED),
    Defect("adapters: the pooler's table in between", "host/compiler.py", "            table=isa.TABLE_ACTIVATION,\n            wait=1,\n            signal=True,\n            **narrow", "            table=isa.TABLE_POOLER,\n            wait=1,\n            signal=True,\n            **narrow", ADAPTED),
    Defect("adapters: norms of each place its own", "host/compiler.py", 'f"{self.owner[layer]}.{norm}", _words', 'f"{layer}.{norm}", _words', "tests/host/test_compiler.py -k share_what"),
    Defect("adapters: a task among the backbone", "host/layouts.py", 'return part[0] in ("classifier", "exits")', 'return part[0] == "exits"', "tests/host/test_compiler.py -k TestAdapters"),
    Defect("adapters: a write for each piece", "host/layouts.py", "found[-1].offset + found[-1].bytes == piece.offset", "found[-1].bytes == -1", "tests/host/test_compiler.py -k TestAdapters"),
    Defect("adapters: a port too few moved", "host/compiler.py", "ports * k * isa.BEAT_BYTES)", "max(ports - 1, 1) * k * isa.BEAT_BYTES)", "tests/host/test_compiler.py -k another_task"),
    Defect("tasks: a grid for what comes before adapters alone", "quant/task_walk.py", 'torch.maximum(peaks[before], peaks[f"layers.{i}.{place}.x"])', "peaks[before]", QUANTIZED + " -k one_grid"),
    Defect("tasks: the mapping on a grid of its own", "quant/task_walk.py", '            streams[-1].append("mapping.x")\n', "            pass\n", QUANTIZED + " -k one_grid"),
    Defect("tasks: the bottleneck counted from its middle", "quant/task_tensors.py", "(bias - origin) / unit", "bias / unit", QUANTIZED + " -k near_to"),
    Defect("tasks: any float backbone will do", "quant/quantize_tasks.py", "if digest(checkpoint.weights) !=", "if False and digest(checkpoint.weights) !=", QUANTIZED + " -k another_float"),
    Defect("tasks: all rows through the first task's adapter", "quant/task_walk.py", 'self._product(part, f"{at}.down", h[rows])', 'self._product(self.parts[0], f"{at}.down", h[rows])', QUANTIZED + " -k near_to"),
    Defect("tasks: a backbone for each task in the study", "quant/task_models.py", "    @functools.cache  #", "    #", "tests/quant/test_task_models.py -k quantized_once"),
    Defect("trainings: denormal momentum", "quant/train.py", "    torch.set_flush_denormal(True)\n", "", "tests/quant/test_train.py -k denormal"),
    Defect("tasks: any backbone of that name", "quant/task_manifest.py", '(made_for["name"], made_for["sha256"]) != (backbone["name"], backbone["sha256"])', 'made_for["name"] != backbone["name"]', TASKS + " -k its_name_and_its_hash or metrics_changed"),
    Defect("tasks: any task of that name is there already", "quant/task_artifact.py", " or _bytes(target) != files:", ":", TASKS + " -k name_that_is_taken"),
    Defect("tasks: a task's numbers are believed", "quant/task_artifact.py", "    check_values(folder / TASK_MODEL, merged, tensors)\n", "", TASKS + " -k value_of_a_task"),
    Defect("tasks: a backbone is replaced under its tasks", "quant/task_artifact.py", "if tasks.exists() and any(tasks.iterdir()):", "if tasks.exists() and not tasks.is_dir():", TASKS + " -k not_replaced"),
    Defect("tasks: the norms' shifts are the backbone's", "quant/artifact_tensors.py", "(gamma|beta)(_shift)?)", "(gamma|beta))", TASKS + " -k norms_words"),
    Defect("adapters: norms of other splits share their words", "quant/artifact_tensors.py", "entries == of_owner, f", "entries >= 1, f", "tests/quant/test_artifact.py -k value_of_adapters"),
    Defect("adapters: shared across matrices", "quant/artifact_manifest.py", " or weights[i] != weights[j] for", " for", "tests/quant/test_artifact.py -k field_of_adapters"),
    Defect("position row for the word", KERNELS + "load.hpp", "const uint64_t row = state.field[c.field.to_int()]", "const uint64_t row = state.field[0]", PASS),
    Defect("first table adds to what was there", KERNELS + "embed.hpp", "first ? sint<34>(term) :", "first && n < 0 ? sint<34>(term) :", "tests/host/test_whole_pass.py -k chip_state"),
    Defect("store halves swapped", KERNELS + "store.hpp", "out.half[h] = bits;", "out.half[1 - h] = bits;", PASS),
    # Fetch: tokens and checks.
    Defect("weights freed at the first row block", KERNELS + "fetch_gemm.hpp", "uint<1>(n == rows.count - 1 && !loads.zero ? 1 : 0)", "uint<1>(n == 0 && !loads.zero ? 1 : 0)", "tests/host/test_expansion.py"),
    Defect("context does not wait for the numerators", KERNELS + "fetch_attention.hpp", "uint<8>(tokens_up_to(state, at.scored[slot]))", "uint<8>(0)", PASS),
    Defect("activation region unchecked", KERNELS + "fetch.hpp", "base + stride * (blocks - 1) + words <= kActivationWords;", "base + stride * (blocks - 1) <= kActivationWords;", FETCH),
    Defect("shift 0 accepted", KERNELS + "fetch.hpp", "within(s, 1, 31); }", "within(s, 0, 31); }", FETCH),
    # The packer.
    Defect("packer swaps channels of a pair", "host/memory_image.py", "padded[0::2] | padded[1::2] << 4", "padded[1::2] | padded[0::2] << 4", PASS),
    Defect("packer forgets the continuation", "host/memory_image.py", "(channel[1:] == channel[:-1])", "(channel[1:] != channel[1:])", PASS),
    Defect("packer drops the score shift", "host/memory_image.py", 'words[:, 0] |= tensors[f"{name}.score_{part}"]', 'words[:, 0] |= tensors[f"{name}.score_m"]', PASS),
    # The cycle model's commands.
    Defect("model frees weights a row block early", "fpga/expansion.py", "push_weights_free=n == len(self.rows(i)) - 1 and not zero,", "push_weights_free=n == 0 and not zero,", "tests/host/test_expansion.py"),
    # Where the cycles go, the roofline, broken assumptions.
    Defect("account: weights bind that came before the data", "fpga/cycle_account.py", " if s[1] not in later]", "]", "tests/fpga/test_cycle_account.py -k by_hand"),
    Defect("account: a layer begins with its keys", "fpga/program_parts.py", "begins = [index - 3 for", "begins = [index - 2 for", "tests/fpga/test_program_parts.py -k compiler_names"),
    Defect("roofline: ports of any rate", "fpga/roofline.py", "min(model.ddr_bytes_per_second / 1e9, ports)", "model.ddr_bytes_per_second / 1e9", "tests/fpga/test_roofline.py -k ports"),
    Defect("sensitivity: the vector unit reads what has not left the array", "fpga/cycles.py", "yield from self.accumulators.sent_for(c.accumulators)", "yield from self.accumulators.sent_for(0)", "tests/fpga/test_sensitivity.py -k by_hand or all_units"),
    Defect("sensitivity: the slow clock is the headline's", "fpga/sensitivity.py", "mhz = slow_mhz if broken.slow_clock", "mhz = clock_mhz if broken.slow_clock", "tests/fpga/test_sensitivity.py -k every_row"),
    # The driver and what feeds it.
    Defect("rows not flushed", "host/loaded_engine.py", "        region[:] = header\n        region.flush()\n", "        region[:] = header\n", ENGINE),
    Defect("program and image not flushed", "host/buffers.py", "buffer.flush()", "pass", ENGINE),
    Defect("results not invalidated", "host/loaded_engine.py", "io[self.plan.io.results :].invalidate()", "pass", ENGINE),
    Defect("done lost to a look at idle", "host/driver.py", "self._done |= bool(", "self._done = bool(", DRIVER),
    Defect("status ignored", "host/driver.py", "if status:", "if False:", DRIVER),
    Defect("high word of an address dropped", "host/driver.py", "self.write(offset + 4, int(address) >> 32)", "self.write(offset + 4, 0)", DRIVER),
    Defect("clock changed while the engine runs", "host/driver.py", "if not engine.idle:", "if False:", DRIVER),
    Defect("lock not awaited", "host/driver.py", 'self._wait_for_lock("after")', "pass", DRIVER),
    Defect("key range one short", "host/packing.py", "columns[4, here] = at + count", "columns[4, here] = at + count - 1", ENGINE),
    # The heads.
    Defect("softmax of a multi-label model", "host/result.py", 'if form == "softmax":', 'if form != "none":', ENGINE),
    Defect("labels of the tokens before", "host/answers.py", "[[span.row for", "[[span.row - 1 for", ENGINE),
    # Training.
    Defect("gradient through saturation", "quant/straight_through.py", "g = g * inside\n        g_acc", "g_acc", STRAIGHT),
    Defect("softmax without its mean", "quant/straight_through.py", "(g_p - (g_p * p).sum(dim=-1, keepdim=True))", "g_p", STRAIGHT),
    Defect("clip without its factor", "quant/trainable.py", '.matrix}.clip"].exp()\n        if before', '.matrix}.clip"].exp() ** 0\n        if before', TRAINABLE),
    Defect("zero point left in the bias", "quant/trainable.py", "return w.double() @ self.centres[name] if", "return 0.0 if", TRAINABLE),
    Defect("resumed with another recipe", "quant/train.py", "if path.is_file():", "if False:", "tests/quant/test_train.py -k other_settings"),
    # Pruned weights.
    Defect("pruned weights rounded all the same", "quant/gptq.py", "qj if kept is None else qj * kept[:, start + j]", "qj", PRUNING + " -k columns_make_up"),
    Defect("mask in another order than the columns", "quant/gptq.py", "kept = None if kept is None else kept[:, order]", "kept = kept", PRUNING + " -k columns_make_up"),
    Defect("refinement leaves the mask", "quant/gptq.py", "new = new if kept is None else new * kept[:, start + j]", "pass", PRUNING + " -k columns_make_up"),
    # EdgeBERT's stages in float.
    Defect("a band one token too wide", "quant/spans.py", ">= spans[there, None, None]", "> spans[there, None, None]", LEARNT),
    Defect("soft weights not renormalised", "quant/spans.py", "weights / (weights.sum(dim=-1, keepdim=True) + 1e-8)", "weights", LEARNT),
    Defect("a head that does not fade", "quant/spans.py", "weights @ vs * mask[:, :1, :1]", "weights @ vs", LEARNT),
    Defect("an adapter without its residual", "quant/float_model.py", "return h + apply(adapter.up,", "return apply(adapter.up,", "tests/quant/test_adapters.py -k transformers"),
    Defect("norms of a place that owns none", "quant/adapters.py", "first = weights.architecture.weights[i]", "first = weights.architecture.weights[0]", "tests/quant/test_adapters.py -k transformers"),
    Defect("a pickle is run", "quant/adapter_hub.py", "weights_only=True", "weights_only=False", "tests/quant/test_adapter_hub.py -k no_archive"),
    Defect("foreign tensors are passed over", "quant/adapter_hub.py", "sorted(needed.keys() | found.keys())", "sorted(needed.keys())", "tests/quant/test_adapter_hub.py -k do_not_fit"),
    Defect("a head without the backbone's pooler", "quant/adapter_hub.py", '"use_pooler": True, "layers": 1', '"layers": 1', "tests/quant/test_adapter_hub.py -k kind_of_head"),
    Defect("an ALBERT's adapter of the wrong input", "quant/adapter_hub.py", '"mh_adapter": a.family == "bert"', '"mh_adapter": config.get("mh_adapter")', "tests/quant/test_adapter_hub.py -k at_attention"),
    Defect("adapters of another group", "quant/adapter_hub.py", ".format(*places[int(i)])", ".format(*places[0])", "tests/quant/test_adapter_hub.py -k library_did"),
    Defect("a backbone that follows the last layer alone", "quant/backbone.py", "self._losses(batch).mean(dim=1)", "self._losses(batch)[:, -1]", "tests/quant/test_backbone.py -k every_layer"),
    Defect("spans stay soft", "quant/slim.py", "return ramp - part * max(ramp - 1, 0.0)", "return ramp", "tests/quant/test_slim.py -k harden"),
    Defect("every product in float32", "quant/float_stage.py", 'enabled=self.precision == "bfloat16"', "enabled=False", "tests/quant/test_slim.py -k bfloat16"),
    Defect("a layer without a head", "quant/spans.py", "spans.gather(1, best).clamp(min=1)", "spans.gather(1, best)", LEARNT),
    Defect("the dense baseline is pruned too", "quant/recipe.py", "recipe.slim is not None and recipe.prune is not None", "recipe.slim is None and recipe.prune is None", "tests/quant/test_recipe.py -k pruned_once"),
    Defect("a voltage below half of the top clock", "fpga/voltage.py", "max(share, 0.0)", "share", "tests/fpga/test_voltage.py"),
    Defect("movement towards zero counts", "quant/masks.py", "return grad * mask, grad * weight, None", "return grad * mask, -grad * weight, None", MASKS),
    Defect("pruned weights get gradients", "quant/masks.py", "return grad * mask, grad * weight, None", "return grad, grad * weight, None", MASKS),
    Defect("weights of a head gone stay", "quant/masks.py", "serves &= channels if part", "serves |= channels if part", MASKS),
    Defect("copies as loud as the rest", "quant/deepen.py", "linear.weight *= share", "linear.weight *= 1", "tests/quant/test_deepen.py -k untrained or copies"),
    Defect("scaling folded by half", "quant/ramps.py", 'found[f"{at}bias"] -= found[f"{at}weight"] @ mean', "pass", "tests/quant/test_ramps.py -k folded"),
    Defect("zeros come back with the ramps", "quant/offramps.py", "weight *= self.kept[name]", "weight *= 1", "tests/quant/test_offramps.py -k zeros_and_spans"),
    Defect("special tokens replaced", "quant/sentences.py", "replaced = words & (", "replaced = (", "tests/quant/test_sentences.py"),
    Defect("one weight too many", "quant/pruning.py", "return int(Decimal(repr(density)) * size)", "return int(Decimal(repr(density)) * size) + 1", PRUNING + " -k exactly"),
    Defect("of equal weights the last stay", "quant/pruning.py", 'np.argsort(-score.ravel(), kind="stable")', 'np.argsort(score.ravel(), kind="stable")[::-1]', PRUNING + " -k first_stay"),
    Defect("rows that are stored twice count once", "quant/walk.py", "origin=origin, times=e)", "origin=origin)", PRUNING + " -k denser"),
    Defect("shared rows that are stored twice count once", "quant/shared.py", 'times = {"ffn1": ffn}', "times = {}", PRUNING + " -k shared_rows"),
    Defect("shared matrices are not pruned", "quant/linears.py", "lambda scale: scale, _CLIPS[bits], sweeps, kept)", "lambda scale: scale, _CLIPS[bits], sweeps)", PRUNING + " -k shared"),
    Defect("contribution is magnitude", "quant/linears.py", "score * (g.diagonal().sqrt() * step)", "score", PRUNING + " -k made_up_for"),
    Defect("every tile has a mask", "quant/pruning.py", "np.where(kept > _RAW_ABOVE,", "np.where(kept > TILE,", PRUNING + " -k non_zeros"),
    Defect("training revives pruned weights", "quant/trainable.py", "latent = latent * self.masks[matrix]", "pass", PRUNING + " -k within_the_mask"),
    Defect("momentum revives pruned weights", "quant/trainable.py", '.weight"].mul_(mask)', '.weight"].mul_(1)', PRUNING + " -k falling"),
    Defect("pruned weights drift in training", "quant/train.py", "            model.hold()\n", "", "tests/quant/test_train.py -k pruned_training"),
    Defect("a denser epoch is the best", "quant/train.py", "if done else _WORST", "if done or True else _WORST", "tests/quant/test_train.py -k best_epoch_is_one"),
    Defect("calibrated dense, trained sparse", "quant/train.py", "recipe.prune is not None and recipe.prune.ramp == 0", "False", "tests/quant/test_train.py -k a_pruned_run"),
    Defect("a trained row stays for another artifact", "quant/sparsity.py", '.get("artifact") != _digest(artifact)', '.get("artifact") is None', "tests/quant/test_sparsity.py -k anew"),
    # Leaving early, spans and heads that vanished, in integers.
    Defect("early exit: a sentence leaves twice", "quant/golden_model.py", "now = ~left & golden", "now = golden", GOLDEN_EARLY + " -k equations_say and early-rising"),
    Defect("early exit: half a sentence lives on", "quant/golden_model.py", "blocks[begin // LANES : -(-end // LANES)]", "blocks[begin // LANES]", GOLDEN_EARLY + " -k equations_say and early-rising"),
    Defect("early exit: those that left choose the clock", "quant/golden_model.py", "in self.foretold[self.layer == 0])", "in self.foretold)", GOLDEN_EARLY + " -k equations_say and early-rising"),
    Defect("early exit: one span for all heads", "quant/golden_model.py", "self.spans[i][head])", "self.spans[i][0])", GOLDEN_EARLY + " -k its_span"),
    Defect("early exit: a span one key too far", "quant/band.py", ".abs() >= torch", ".abs() > torch", "tests/quant/test_fake_quant.py -k early"),
    Defect("early exit: no band in the gradient", "quant/straight_through.py", "if ctx.spans is not None:", "if False:", STRAIGHT + " -k attention"),
    Defect("early exit: ramps with the last norm's clip", "quant/trainable.py", """norm = f"layers.{name.split('.')[1]}.ffn_norm\"""", "norm = before", TRAINABLE + " -k writes"),
    Defect("early exit: ramps are not trained", "quant/train.py", "torch.stack(losses).mean()", "losses[-1]", "tests/quant/test_train.py -k every_ramp"),
    Defect("early exit: heads of span 0 stay", "quant/checkpoint.py", "(torch.tensor(spans) > 0)", "(torch.tensor(spans) >= 0)", "tests/quant/test_checkpoint.py -k span_0"),
    Defect("early exit: zeros of a pruned model come back", "quant/linears.py", "torch.from_numpy(mask) & (w != 0)", "torch.from_numpy(mask)", PRUNING + " -k zeros_of"),
    Defect("early exit: what is left is pruned again", "quant/pruning.py", "or left == heads or pattern", "or True or pattern", PRUNING + " -k lost_heads"),
    Defect("early exit: a span of 0 in an artifact", "quant/artifact_manifest.py", "is_int(span, 1, 128)", "is_int(span, 0, 128)", "tests/quant/test_artifact.py -k leaving_early"),
    Defect("early exit: exit rows twice as wide", "quant/scales.py", ".bit_length() - 8", ".bit_length() - 7", "tests/quant/test_scales.py -k exit_rows"),
    # Faults, and whether board, bitstream and artifact fit.
    Defect("no reset after a hang", "host/recovery.py", "    driver.reset()\n    try:", "    try:", FAULTS),
    Defect("resident weights lost by a reset", "host/loaded_engine.py", "self._kept_after != self.driver.resets", "self._kept_after < 0", RESIDENT + " -k after_a_hang"),
    Defect("corrupt weights without a name", "host/loaded_engine.py", "if error.status in WEIGHTS_FAULTS:", "if False:", RESIDENT + " -k named"),
    Defect("resident matrices on top of each other", "host/storage.py", "used += matrix.words", "used += 0", RESIDENT + " -k Planner"),
    Defect("what one layer uses goes first", "host/storage.py", "key=lambda matrix: -matrix.uses", "key=lambda matrix: matrix.uses", RESIDENT + " -k Planner"),
    Defect("compressed though larger", "host/storage.py", "self.compressed_bytes < self.dense_bytes", "self.compressed_bytes < 2 * self.dense_bytes", RESIDENT + " -k Planner"),
    Defect("context over the operand of projections", "fpga/program.py", "begin < context[1] and context[0] < end", "begin < context[1] and context[0] < begin", "tests/fpga/test_program.py"),
    Defect("a row of blocks counts as all", "fpga/power.py", "cycles, b.most) / b.rows", "cycles, b.most)", POWER),
    Defect("engine left running at close", "host/loaded_engine.py", "settle(driver)", "pass", FAULTS),
    Defect("failed sentence counts as wrong", "host/demo.py", "total += result.error is None", "total += 1", FAULTS),
    Defect("capabilities not looked at", "host/checks.py", "needed(plan.instructions) - frozenset(engine.capabilities)", "frozenset(plan.instructions[:0])", TARGET),
    Defect("bitstream's files not checked", "host/target.py", "check_files(manifest, path.parent)", "pass", TARGET),
    Defect("clock above the limit by default", "host/engine.py", "clock_mhz = min(board.clock_mhz, target.max_clock_mhz)", "clock_mhz = board.clock_mhz", TARGET),
    # Clocks and resets.
    Defect("settings before not brought back", "host/driver.py", "            self._change(before, engine)\n", "            engine.start_clock()\n", DRIVER),
    Defect("done of a reset run kept", "host/driver.py", "            time.sleep(POLL_S)\n        self._done = False\n", "            time.sleep(POLL_S)\n", DRIVER),
    Defect("interrupt status written blindly", "host/driver.py", "        if pending:\n            self._put", "        if pending or True:\n            self._put", DRIVER),
    Defect("other outputs faster than asked", "fpga/clock_settings.py", "math.ceil(vco / top)", "math.floor(vco / top)", "tests/fpga/test_clock_settings.py"),
    Defect("limit of timing ignored", "host/clocks.py", "if not mhz <= self.limit_mhz:", "if not mhz <= max(self.limit_mhz, 300):", "tests/host/test_clocks.py"),
    Defect("reset keeps what is on chip", "host/emulated/registers.py", "        self.clear()\n", "", "tests/host/emulated/test_device.py"),
    # The build's gates and restart.
    Defect("a loop missing in the report", "fpga/build/gate.py", "if len(found) < len(functions):", "if not found and len(functions) > 9:", BUILD + "test_csynth.py -k one_of_three_loops_of_a_label_missing"),
    Defect("initiation interval unknown", "fpga/build/gate.py", "if loop.ii != 1:", "if loop.ii is not None and loop.ii > 1:", BUILD + "test_csynth.py -k each_failure_is_a_line"),
    Defect("reports of sub-functions left out", "fpga/build/csynth.py", 'sorted(folder.glob("*_csynth.xml"))', "()", BUILD + "test_csynth.py -k what_is_as_wanted_passes"),
    Defect("a touched header reruns nothing", "fpga/build/steps.py", "sources = set(files_of(component.top, component.root))", "sources = {component.top}", BUILD + "test_steps.py -k a_kernel_header_that_is_touched"),
    Defect("exit code 0 alone passes", "fpga/build/steps.py", "if step in hls.PASSED:", "if step in ():", BUILD + "test_steps.py -k exit_code_0_alone"),
    # What a user sees of a machine.
    Defect("one item's failure ends the report", "host/info.py", "except Exception as error:  # whatever", "except NotHere as error:  # whatever", "tests/host/test_info.py"),
    Defect("log on stdout", "host/log.py", "        return sys.stderr", "        return sys.stdout", "tests/host/test_log.py"),
    Defect("numpy 2 taken", "host/pynq_quietly.py", ">= 2:", ">= 3:", "tests/host/test_pynq_quietly.py"),
    # Power and the benchmark.
    Defect("emulator's time in a board's figure", "host/bench/modelled.py", "time.perf_counter() - start - timed.seconds", "time.perf_counter() - start", "tests/host/bench/test_board.py -k Emulators"),
    Defect("lost sensor keeps its figure", "host/sampler.py", "    if end.lost_at is not None:\n        return None\n", "", "tests/host/test_sampler.py -k Lost"),
    Defect("glitch counted", "host/sampler.py", "high, low = max(before, after), min(before, after)", "high, low = before, before", "tests/host/test_sampler.py -k Glitches"),
    Defect("modelled figure called measured", "host/bench/board.py", '"fps_end_to_end": figure(len(whole) / run.end_to_end_s, "fps", run.source)', '"fps_end_to_end": figure(len(whole) / run.end_to_end_s, "fps", "measured")', "tests/host/bench/test_board.py -k Modelled"),
    Defect("power of another clock", "host/meter.py", "if not goes_on or clock_mhz != self._stream_mhz:", "if not self._stream:", "tests/host/test_meter.py"),
    Defect("text of users not escaped", "host/bench/report.py", "<td>{escape(str(value))}</td></tr>'", "<td>{value}</td></tr>'", "tests/host/bench/test_report.py"),
    # The benchmark of early exit.
    Defect("early-exit bench: missed targets forgotten", "host/bench/edgebert_table.py", "strict=True) if not met]", "strict=True) if met is None]", "tests/host/bench/test_edgebert_table.py"),
    Defect("early-exit bench: headline at a missed target", "host/bench/edgebert_table.py", 'if not any(row["target"]["missed"]["value"]', 'if any(row["target"]["missed"]["value"]', "tests/host/bench/test_edgebert_table.py"),
    Defect("early-exit bench: points won called lost", "host/bench/paired.py", '"points": 100 * (away - new) / n', '"points": 100 * (new - away) / n', "tests/host/bench/test_edgebert_table.py"),
    Defect("early-exit bench: ratio of means of other rows", "host/bench/edgebert_table.py", 'by_key[over]["energy"]["value"] / lower', 'by_key["a"]["energy"]["value"] / lower', "tests/host/bench/test_edgebert_table.py"),
    Defect("early-exit bench: a cut run begins anew", "host/bench/edgebert_trace.py", "run(len(trace), _Keeping", "run(0, _Keeping", "tests/host/bench/test_edgebert_trace.py"),
    Defect("early-exit bench: traces of any settings", "host/bench/edgebert_trace.py", 'f"{name}-{digest(settings)}.json"', 'f"{name}.json"', "tests/host/bench/test_edgebert_trace.py"),
    Defect("early-exit bench: passes of any number of sentences", "host/bench/edgebert_costs.py", "and len(passes[n]) < isa.LANES)", ")", "tests/host/bench/test_edgebert_costs.py"),
    Defect("early-exit bench: the processing system's voltage follows too", "fpga/voltage.py", '{"static": ratio, "ps": 1.0', '{"static": ratio, "ps": ratio', "tests/host/bench/test_edgebert_costs.py"),
    Defect("early-exit bench: idle of the period free", "host/bench/edgebert_costs.py", "standing(max(target_ms - ms, 0.0) * 1e-3)", "standing(0.0 * ms)", "tests/host/bench/test_edgebert_costs.py"),
    Defect("early-exit bench: hypothetical figure without the word", "host/bench/edgebert.py", "            label=HYPOTHETICAL,\n", "", "tests/host/bench/test_edgebert_costs.py -k asides"),
    Defect("early-exit bench: the engine's clock not held against the model's", "host/bench/edgebert.py", "if ran != modelled and", "if ran < 0 and", "tests/host/bench/test_edgebert_costs.py -k engines_clocks"),
    Defect("early-exit bench: a step by entropy called foretold", "host/bench/edgebert.py", "trace = given.trace(model, given.first_board, point, target)", "trace = given.trace(model, given.first_board, point)", "tests/host/bench/test_edgebert.py -k steps_in_each_way"),
    Defect("early-exit bench: thresholds of no unit", "host/bench/edgebert_report.py", "{stored * NATS:.3f} nats", "{stored:.3f} nats", "tests/host/bench/test_edgebert.py -k thresholds_in_nats"),
    Defect("early-exit bench: any tokenizer", "host/bench/edgebert_models.py", '("tokenizer", *(m.artifact.tokenizer_path.read_bytes() for', '("tokenizer", *(len(m.artifact.manifest) for', "tests/host/bench/test_edgebert.py -k vocabulary"),
    # The benchmark beside PyTorch and ONNX Runtime.
    Defect("compare: points against float turned round", "host/bench/compare.py", '"points": 0 - found["points"]', '"points": 0 + found["points"]', "tests/host/bench/test_compare_parts.py -k Difference"),
    Defect("compare: always the same way first", "host/bench/compare_ways.py", "ways[(turn + place) % len(ways)]", "ways[place]", "tests/host/bench/test_compare_parts.py -k Turns"),
    Defect("compare: caches of the way before are timed", "host/bench/compare_ways.py", "                way.run(begin)\n", "", "tests/host/bench/test_compare_parts.py -k Turns"),
    Defect("compare: ours beside a length that is not ours", "host/bench/compare_modelled.py", "[tokens])\n    kept", "[32])\n    kept", "tests/host/bench/test_compare_parts.py -k fq_bert"),
    Defect("compare: shared matrices stay in float", "quant/onnx_model.py", "    _share(found.graph)\n", "", "tests/quant/test_onnx_model.py -k every_matrix"),
    Defect("compare: int8 with one scale a matrix", "quant/onnx_model.py", "per_channel=True", "per_channel=False", "tests/quant/test_onnx_model.py -k output_channel"),
    Defect("compare: any tokenizer", "quant/float_classifier.py", "if json.loads(made.tokenizer_json) != json", "if json.loads(made.tokenizer_json) is json", "tests/quant/test_float_classifier.py -k tokenizer"),
    # The power model.
    Defect("a row left out is not", "fpga/power.py", "[other for other in calibrating() if other is not row]", "list(calibrating())", POWER),
    Defect("a row keeps its own reports", "fpga/power.py", "r for r in REPORTS if r.family != row.family", "r for r in REPORTS", POWER),
    Defect("PS counted where the watts are the logic's", "fpga/power.py", '"ps": values["ps_w"] if chip else 0.0', '"ps": values["ps_w"]', POWER),
    Defect("range without the errors", "fpga/power.py", "min(*sums, total / (1 + most))", "min(sums)", POWER + " -k no_less"),
    Defect("published designs never wait", "fpga/power.py", 'u = values["row_utilization"] if row.utilization is None else row.utilization', "u = 1.0", POWER),
    Defect("idle share at work", "fpga/power.py", "idle + (1 - idle) * share", "idle + share", POWER),
    Defect("hard blocks clocked for nothing", "fpga/power.py", "(activity.ff + BLOCK_CLOCK * blocks)", "activity.ff", POWER),
    Defect("a family counts for each of its reports", "fpga/constants.py", "families.setdefault(report.family, [])", "families.setdefault(report.name, [])", POWER),
    Defect("volts of a report forgotten", "fpga/constants.py", "* (NOMINAL_V / r.vccint) ** 2", "", POWER),
    Defect("an unknown unit never works", "fpga/power.py", "if unit in timing.busy else 1.0", "if unit in timing.busy else 0.0", POWER),
    # Energy by part, frequency scaling by sentence, early exit in the host.
    Defect("energy: zero steps save the idle share too", "fpga/energy.py", '-found[CELLS]["array busy"]', '-1.2 * found[CELLS]["array busy"]', ENERGY),
    Defect("energy: a pause keeps the clock", "fpga/energy.py", "    return Work({SECONDS: seconds})", "    return Work({SECONDS: seconds, CYCLES: seconds * 1e8})", ENERGY),
    Defect("energy: bytes written are free", "fpga/energy.py", "timing.ddr_bytes_read + timing.ddr_bytes_written", "timing.ddr_bytes_read", ENERGY),
    Defect("dvfs: the change of clock takes no time", "fpga/dvfs.py", "standing(select_seconds()) + rest", "standing(0.0) + rest", DVFS),
    Defect("dvfs: the first layer at the rest's clock", "fpga/dvfs.py", "self.until(1, row_blocks, first_mhz) + standing", "self.until(1, row_blocks, rest_mhz) + standing", DVFS),
    Defect("dvfs: a target missed by the top clock is met", "fpga/dvfs.py", "None if target_s is None else False, self", "None if target_s is None else True, self", DVFS),
    Defect("dvfs: energy to the end, not of the period", "fpga/dvfs.py", "self.energy(course, target_s, gated))", "self.energy(course))", DVFS),
    Defect("dvfs: none foretold is the first layer", "fpga/dvfs.py", "bytes([found[-1], *found,", "bytes([found[0], *found,", DVFS),
    Defect("dvfs: a slower output may have a lower number", "fpga/dvfs.py", "if outputs[number] < found[-1][1]:", "if outputs[number] < outputs[current]:", DVFS),
    Defect("dvfs: a retune costs nothing", "fpga/dvfs.py", "max(MARGIN * given, pause_joules(passes.board, retune_seconds()))", "MARGIN * given", DVFS),
    Defect("dvfs: retuned for less than the margin", "fpga/dvfs.py", "max(MARGIN * given, pause_joules(passes.board, retune_seconds()))", "pause_joules(passes.board, retune_seconds())", DVFS),
    Defect("dvfs: outputs slower than the margin needs", "fpga/dvfs.py", "        return low\n\n    def balance", "        return self.least_mhz(row_blocks, verdicts, first_mhz, target_s)\n\n    def balance", DVFS),
    Defect("host exits: a lane that left keeps its rows", "host/early_exit.py", "if n > ramp)", "if n >= ramp)", EARLY + " -k by_hand"),
    Defect("host exits: the clock table is not flushed", "host/loaded_engine.py", "            region[:] = np.frombuffer(table, np.uint8)\n            region.flush()\n", "            region[:] = np.frombuffer(table, np.uint8)\n", EARLY + " -k flushed"),
    Defect("host exits: the exit table of the other way", "host/loaded_engine.py", "        region[:] = data\n        region.flush()\n", "        region[:] = data\n", EARLY + " -k come_and_go"),
    Defect("host exits: every sentence answers as the last ramp", "host/task_set.py", "ramp_logits(io, layer, lane)", "ramp_logits(io, 1, lane)", EARLY + " -k is_the_goldens"),
    Defect("host exits: retuned within a batch", "host/early_exit.py", "if target_s != self._target_s or self._batch.total() < BATCH:", "if not self._batch:", EARLY + " -k TestLoad"),
    Defect("host exits: chance is another load", "host/early_exit.py", "(mix - looked).total() < ANOTHER_LOAD", "mix == looked", EARLY + " -k TestLoad"),
    Defect("host exits: an old load never fades", "host/early_exit.py", "mix, self._batch = self._batch, Counter()", "mix = self._batch", EARLY + " -k TestLoad"),
    Defect("host exits: the clock runs on after a pass", "host/engine.py", "            self.clocks.stop()", "            pass", EARLY + " -k TestStanding"),
    Defect("host exits: a pass while the clock stands", "host/loaded_engine.py", "        self.clocks.start()\n", "", EARLY + " -k TestStanding"),
    Defect("host exits: a stop that is interrupted is forgotten", "host/clocks.py", "        self._may_stand = True  # also where the change is interrupted\n        self.engine.stop_clock()\n", "        self.engine.stop_clock()\n        self._may_stand = True\n", EARLY + " -k interrupted"),
    Defect("host exits: the board's plan for a latency target", "host/engine.py", "if early_exit is None else target.max_clock_mhz", "if True else target.max_clock_mhz", EARLY + " -k plan_misses"),
    Defect("host exits: strict forgives a missed target", "host/cli.py", "if failed or (strict and missed):", "if failed:", EARLY + " -k a_missed_target"),
    Defect("zero steps: the scores of one tile alone", "host/zero_steps.py", "for first in range(0, len(k), KEYS):", "for first in range(0, KEYS, KEYS):", ZEROS + " -k counted"),
    # The block design, its Tcl, the manifest.
    Defect("memory written at every enable", "fpga/build/tcl/design.tcl", "join_pins ${writer}_we0 $cell/write_we", "join_pins ${writer}_ce0 $cell/write_we", DESIGN),
    Defect("stream on the fixed clock", "fpga/build/tcl/design.tcl", "give engine_clock $fifo/s_axis_aclk", "give fixed_clock $fifo/s_axis_aclk", DESIGN),
    Defect("hold not looked at", "fpga/build/tcl/implement.tcl", "foreach figure {WNS TNS WHS THS TPWS}", "foreach figure {WNS TNS}", DESIGN),
    Defect("another IP keeps the bitstream", "fpga/build/vivado.py", 'inputs[f"{unit} {path.relative_to(ip)}"] = stamps.file_digest(path)', 'inputs[f"{unit} {path.relative_to(ip)}"] = ""', BUILD + "test_vivado.py"),
    Defect("sha256 of any value", "fpga/manifest.py", "        if found != expected:", "        if len(found) != len(expected):", "tests/fpga/test_manifest.py"),
    # The testbench and its vectors.
    Defect("streams left over", "fpga/sim/block_diagram.hpp", "if (left_over()) return", "if (false) return", BENCH + " -k end_well"),
    Defect("one differing byte passes", "fpga/testbench/testbench.cpp", "if (differing != 0)", "if (differing > 1)", BENCH + " -k one_expected_byte"),
    Defect("vector state lost between commands", "fpga/top/engine_vector.cpp", "static vector_state state;", "vector_state state;", BENCH + " -k goldens_passes"),
    Defect("absent lanes expected as 0", "host/vectors.py", "np.repeat(absent, isa.LANES, axis=0)", "np.repeat(0 * absent, isa.LANES, axis=0)", "tests/host/test_vectors.py -k script_makes"),
    # The RTL around the engine.
    Defect("done set in a read is lost", "fpga/rtl/engine_control.v", "done <= run_done | (done & ~control_read);", "done <= (run_done | done) & ~control_read;", CONTROL),
    Defect("ready counted twice", "fpga/rtl/engine_control.v", "(run_done ? ~taken : ready_now ^ ready_seen)", "(ready_now ^ ready_seen)", CONTROL),
    Defect("start lost in a reset", "fpga/rtl/engine_control.v", "start_seen <= start_now;", "if (engine_resetn) start_seen <= start_now;", CONTROL),
    Defect("clock changed while a program runs", "fpga/rtl/engine_control.v", "if (!clock_as_wanted && (!running || chosen)) begin", "if (!clock_as_wanted) begin", CONTROL),
    Defect("program's clock waits for its end", "fpga/rtl/engine_control.v", "if (!clock_as_wanted && (!running || chosen)) begin", "if (!clock_as_wanted && !running) begin", CHOICE),
    Defect("program's clock stays after its run", "fpga/rtl/engine_control.v", "reset_written || !running || run_done) begin", "reset_written) begin", CHOICE),
    Defect("program's clock taken after its run", "fpga/rtl/engine_control.v", "reset_written || !running || run_done) begin", "reset_written || run_done) begin", CHOICE),
    Defect("program's clock survives a reset", "fpga/rtl/engine_control.v", "if (!fixed_resetn || reset_written || !running || run_done) begin", "if (!fixed_resetn || run_done) begin", CHOICE),
    Defect("program's clock not limited", "fpga/rtl/engine_control.v", "chosen_output <= choice_held < limit ? limit : choice_held;", "chosen_output <= choice_held;", CHOICE),
    Defect("program's clock limited by the host's alone", "fpga/rtl/engine_control.v", "lowest_output < host_output ? lowest_output : host_output", "host_output", CHOICE),
    Defect("a choice's word moves on its way", "fpga/rtl/engine_control.v", "      if (choice_waits & choice_free) begin", "      if (choice_waits) begin", CHOICE),
    Defect("a choice that comes too soon is lost", "fpga/rtl/engine_control.v", "clock_output_ap_vld | (choice_waits & ~choice_free)", "clock_output_ap_vld", CHOICE),
    Defect("a choice with done is made", "fpga/rtl/engine_control.v", "if (!engine_resetn || ended & ap_idle) begin", "if (!engine_resetn) begin", CHOICE),
    Defect("a zero activation multiplies", "fpga/rtl/mac_cell.sv", "!add || !(w_zero_out || a_zero)", "!add || !w_zero_out", GATED),
    Defect("a zero weight multiplies", "fpga/rtl/mac_cell.sv", "!add || !(w_zero_out || a_zero)", "!add || !a_zero", GATED),
    Defect("a first step is gated", "fpga/rtl/mac_cell.sv", "assign multiplies = !add || ", "assign multiplies = ", GATED),
    Defect("adder enabled a cycle early", "fpga/rtl/mac_cell.sv", ".CEP(adds)", ".CEP(multiplies)", GATED),
    Defect("zero of an activation in its own cycle", "fpga/rtl/zero_flag.sv", "always_ff @(posedge clk) zero <= a == 8'd0;", "assign zero = a == 8'd0;", GATED),
    Defect("gating counts columns, not pairs", "fpga/gating.py", "return used[0::2] | used[1::2]", "return used[0::2] & used[1::2]", "tests/fpga/test_gating.py"),
    Defect("gating takes first steps for others", "fpga/gating.py", "multiply[1:]", "multiply[0:]", "tests/fpga/test_gating.py"),
    Defect("the last of the largest is foretold", "fpga/kernels/exit_network.hpp", "results[n] > results[best]", "results[n] >= results[best]", "tests/fpga/build/test_predictor.py -k foretells"),
    Defect("every unit gets the network", "fpga/build/steps.py", "self.predictor if unit == PREDICTING_UNIT else None", "self.predictor", "tests/fpga/build/test_predictor.py -k told"),
    Defect("another network is not built anew", "fpga/build/steps.py", '        inputs["predictor"] = component.predictor.sha256\n', "        pass\n", "tests/host/test_build.py -k network"),
    Defect("emulated limit is CLOCK's alone", "host/emulated/registers.py", "min(self._get(\"CLOCK_LIMIT\"), host)", "host", "tests/host/emulated/test_device.py -k Choice"),
    Defect("gate without its crossing", "fpga/rtl/clock_select.v", "  crossing gate_enable (.clk(chosen_clk), .d(enable), .q(gate_open));", "  assign gate_open = enable;", "tests/fpga/test_clock_select.py -k not lint"),
    Defect("memory of one cycle", "fpga/rtl/memory.v", "read_q <= word;", "read_q <= words[read_address];", "tests/fpga/test_memory_rtl.py -k not lint"),
    # Tokens of row blocks, and the norm behind its residual.
    Defect("only the first row block waits", KERNELS + "fetch_gemm.hpp", "m.pop_data = uint<8>(ct == 0 ? i.wait() : 0);", "m.pop_data = uint<8>(ct == 0 && n == 0 ? i.wait() * rows.count : 0);", "tests/host/test_expansion.py"),
    Defect("attention signals one row block", KERNELS + "fetch_attention.hpp", "uint<3>(last && i.signal() ? state.live.count : 0)", "uint<3>(last && i.signal() ? 1 : 0)", PASS),
    Defect("norm before its row block's tile", KERNELS + "fetch_gemm.hpp", "if (last && with_norm) send_norm_block(", "if (ct == 0 && with_norm) send_norm_block(", PASS),
    Defect("norm may overwrite what is still read", "fpga/program.py", "if row_blocks > 1 and not apart and not alike:", "if row_blocks > 1 and not apart and not alike and gemm.src > norm.dst:", "tests/fpga/test_program.py"),
    Defect("a last GEMM forgotten", KERNELS + "fetch.hpp", "n <= a.instructions; ++n", "n < a.instructions; ++n", FETCH),
    # Compressed weights, the ring they lie in, and heads beside projections.
    Defect("refill a nibble late", KERNELS + "expand.hpp", "window[p].left < count_ones(bits)", "window[p].left + 1 < count_ones(bits)", WEIGHTS),
    Defect("mask bits beyond K not cleared", KERNELS + "weights.hpp", "const int steps = left < per ? left : per;", "const int steps = left < per ? per : per;", WEIGHTS),
    Defect("end tag anywhere", KERNELS + "weights.hpp", "ended = i == beats - 1 && s.left_k == 0;", "ended = true;", WEIGHTS),
    Defect("count not checked", KERNELS + "weights.hpp", " && s.count[p] == 0;", ";", WEIGHTS),
    Defect("overlong segment read anyway", KERNELS + "weights.hpp", "if (beats >= uint32_t(left)) return kOverlong;", "if (left < 0) return kOverlong;", WEIGHTS),
    Defect("headers of other ports not looked at", KERNELS + "weights.hpp", "|| !same_header(w)) return", "|| false) return", WEIGHTS),
    Defect("missing values not made up for", KERNELS + "weights.hpp", "(s.debt[p] + 31) / 32", "s.debt[p] / 32", WEIGHTS),
    Defect("last fault told, not the first", KERNELS + "weights.hpp", "fault != kOk && state.fault.code == kOk", "fault != kOk", WEIGHTS),
    Defect("directory not checked against the matrix", KERNELS + "fetch_weights.hpp", "resident(i) || end <= i.word[15]", "resident(i) || end <= 0xFFFFFFFFu", FETCH),
    Defect("a tile freed too few", KERNELS + "fetch_weights.hpp", "return {int(word), freed};", "return {int(word), freed > 1 ? freed - 1 : freed};", "tests/host/test_expansion.py -k random_directories"),
    Defect("row of a neighbour for the first alone", KERNELS + "load.hpp", "(t >= first && t < end)", "t == first", PASS),
    Defect("context an item early", KERNELS + "fetch_attention.hpp", "tokens_up_to(state, at.scored[slot])", "tokens_up_to(state, at.scored[slot] - 1)", "tests/host/test_expansion.py"),
    Defect("score factor of the head before", KERNELS + "fetch_attention.hpp", "v.channel = uint<11>(head * 2 * ceil_div(1 + width, 2));\n  v.address = uint<15>(i.word[6]", "v.channel = uint<11>((head > 0 ? head - 1 : 0) * 2 * ceil_div(1 + width, 2));\n  v.address = uint<15>(i.word[6]", PASS),
    Defect("held GEMMs in any order", KERNELS + "fetch.hpp", "fits && int(w[7]) == wanted", "fits && wanted >= 0", FETCH),
    # Thresholds and the predictor.
    Defect("exits: at the threshold leaves too", "quant/thresholds.py", "leaves = entropy < threshold", "leaves = entropy <= threshold", THRESHOLDS + " -k equal_to"),
    Defect("exits: leaves a layer after the one foretold", "quant/thresholds.py", "np.arange(1, entropy.shape[1] + 1) >= told", "np.arange(entropy.shape[1]) >= told", THRESHOLDS + " -k engines_equation"),
    Defect("exits: the smallest threshold for the largest", "quant/thresholds.py", "candidates(ramps.entropy)[::-1]:", "candidates(ramps.entropy):", THRESHOLDS + " -k search_through_all"),
    Defect("exits: the first that loses too much ends the search", "quant/thresholds.py", "            return int(threshold)\n    raise", "            return int(threshold)\n        if threshold < candidates(ramps.entropy)[-2]:\n            return 0\n    raise", THRESHOLDS + " -k search_through_all"),
    Defect("exits: unseen rows foretell the first layer", "quant/exit_predictor.py", "return np.where(nearest, table[known], 0).max(axis=1)", "return np.where(seen, table, 1)", PREDICTOR + " -k never_seen"),
    Defect("exits: of two neighbours the earlier layer", "quant/exit_predictor.py", "np.where(nearest, table[known], 0).max(axis=1)", "np.where(nearest, table[known], 99).min(axis=1)", PREDICTOR + " -k never_seen"),
    Defect("exits: a quantile is one layer short", "quant/exit_predictor.py", "table = enough.argmax(axis=1) + 1", "table = np.maximum(enough.argmax(axis=1), 1)", PREDICTOR + " -k surer_rule"),
    Defect("exits: luck is permitted", "quant/thresholds.py", "lost.mean() + SURE * lost.std() / len(lost) ** 0.5 <=", "lost.mean() <=", "tests/quant/test_thresholds.py"),
    Defect("exits: the predictor's loss is not permitted", "quant/exit_predictor.py", "if not permitted(right_at(dev, left), dev, loss_points):", "if False:", PREDICTOR + " -k permitted_loss"),
    Defect("exits: foretelling reads the last ramp", "quant/exit_predictor.py", "predicted_ref(entropy[:, 0], table, row_shift)", "predicted_ref(entropy[:, -1], table, row_shift)", PREDICTOR + " -k reads_the_first"),
    Defect("exits: answers of another model", "quant/exit_answers.py", "if {field: file.metadata().get(field) for field in known} == known:", "if True:", "tests/quant/test_exit_stages.py -k another_model"),
    # Leaving early, and spans.
    Defect("exit: sums forget too soon", KERNELS + "exit.hpp", "kMostRise = 40", "kMostRise = 20", EXIT),
    Defect("exit: logarithm's table a place off", KERNELS + "exit.hpp", "(total >> (p - 10))", "(total >> (p - 9))", EXIT),
    Defect("exit: every tile begins anew", KERNELS + "exit.hpp", "c.first_tile == 1 && i < kLanes", "i < kLanes", EXIT),
    Defect("exit: absent lanes count", KERNELS + "exit.hpp", "row < kRows && e.layer[t] == 0", "e.layer[t] == 0", EXIT),
    Defect("exit: who has left leaves again", KERNELS + "exit.hpp", "row < kRows && e.layer[t] == 0", "row < kRows", EXIT),
    Defect("exit: at the threshold too", KERNELS + "exit.hpp", "entropy < c.threshold ||", "entropy <= c.threshold ||", EXIT),
    Defect("exit: below the layer foretold too", KERNELS + "exit.hpp", "c.layer >= e.foretold[t]", "c.layer + uint<1>(1) >= e.foretold[t]", EXIT),
    Defect("exit: the last lane's clock", KERNELS + "exit.hpp", "if (output < fastest) fastest", "fastest", EXIT),
    Defect("exit: a row block of the last row alone", KERNELS + "exit.hpp", "state.key_begin[row] < (b + 1) * kLanes && state", "state.key_end[row] <= (b + 1) * kLanes && state", EXIT),
    Defect("exit: nobody is forgotten", KERNELS + "vector_unit.hpp", "  clear_exits(state.exits);\n", "", EXIT),
    Defect("exit: dead row blocks run on", KERNELS + "fetch_exit.hpp", "  state.live = rows_of_mask(live);\n", "  if (live == 0) state.live = rows_of_mask(live);\n", EXPANSION),
    Defect("exit: a program without sentences goes on", KERNELS + "fetch.hpp", "running = i.flag(20) || state.live.count > 0;", "state.live.count += state.live.count == 0;", EXPANSION),
    Defect("exit: keys of dead row blocks", KERNELS + "fetch_attention.hpp", "const int end = state.live.last() + 1;", "const int end = state.live.last() / 2 * 2 + 2;", EXPANSION),
    Defect("exit: the next layer's operand overwritten", "host/compiler.py", 'self.gather(f"{name}.", k, at.q)', 'self.gather(f"{name}.", k, at.x)', LEAVING),
    Defect("exit: a label too few", "host/compiler.py", "                weights=weights,\n                parameters=parameters,\n                k=k,\n                n=self.shape.labels,\n", "                weights=weights,\n                parameters=parameters,\n                k=k,\n                n=self.shape.labels - 1,\n", LEAVING),
    Defect("exit: fetch does not wait", "fpga/cycles.py", "now = max(now, (yield from self.verdicts.take(1)))", "yield from self.verdicts.take(1)", CYCLES),
    Defect("exit: tokens out where row blocks end", "fpga/program.py", "isinstance(instruction, Exit) and tokens:", "isinstance(instruction, Exit) and tokens > 4:", "tests/fpga/test_program.py -k no_token_is_out"),
    Defect("span: a key too far", KERNELS + "softmax.hpp", "row - key < span", "row - key <= span", SPANS),
    Defect("span: forward alone", KERNELS + "softmax.hpp", " && key - row < span", "", SPANS),
    Defect("span: a row block of keys too few", KERNELS + "fetch_attention.hpp", "(rb * kLanes + kLanes - 1 + span - 1)", "(rb * kLanes + kLanes - 1 + span - 2)", EXPANSION),
    Defect("span: numerators from the first key needed", KERNELS + "fetch_attention.hpp", "slot * kRows + keys.first % kKeyGroups * kLanes", "slot * kRows", SPANS),
    Defect("span: another head's", KERNELS + "fetch_attention.hpp", "spans.span[16 * b + j]", "spans.span[16 * b + 15 - j]", SPANS),
    # Thresholds and the predictor.
    # Errors of the dense memory, and the study of them.
    Defect("errors: levels wrap around", "quant/bit_errors.py", "step = np.where(level == 0, 1, np.where(level == top, -1, way[of]))", "step = (level + way[of] & top) - level", ERRORS + " -k one_way or one_level"),
    Defect("errors: the lowest bits are protected", "quant/bit_errors.py", "[*range(bits - protected, 0, -cell_bits), 0]", "[*range(bits, protected, -cell_bits), protected]", ERRORS + " -k not_protected or one_level"),
    Defect("errors: padding errs", "quant/bit_errors.py", "math.prod(tensor.shape[:-1]) * words.width, None", "math.prod(tensor.shape[:-1]) * (words.width + words.width % 2), None", ERRORS + " -k format_has_not or not_protected"),
    Defect("errors: off-ramps err", "quant/bit_errors.py", "if _MATRIX.fullmatch(place.matrix):", "if _MATRIX.search(place.matrix):", ERRORS + " -k stored or adapters"),
    Defect("robustness: errors pile up", "quant/robustness.py", "entry = _answer(task, *made[1], point, show)", "entry = _answer(task, *made[1], point, show)\n            if point.errors:\n                made[1][1].update(model_with_errors(made[1][1], stored(*made[1], point.where), point.errors)[0])", ROBUSTNESS),
    Defect("robustness: every seed is the first", "quant/robustness.py", "errors=Errors(rate, cell_bits, protected, seed)", "errors=Errors(rate, cell_bits, protected, 0)", ROBUSTNESS + " -k models_answer"),
    # The search over designs.
    Defect("search: the row blocks left are those after the layer", "host/search_costs.py", "enumerate(verdicts[:-1], 2)", "enumerate(verdicts[1:], 2)", SEARCH_COSTS + " -k sum_of_its"),
    Defect("search: the slowest clock of a pass", "host/search_costs.py", "self.outputs[min(", "self.outputs[max(", SEARCH_COSTS + " -k fastest_of"),
    Defect("search: as accurate for more energy is on the front", "host/search_front.py", 'row["accuracy"] > found[-1]["accuracy"]', 'row["accuracy"] >= found[-1]["accuracy"]', SEARCH + " -k brute_force"),
    Defect("search: goes on with anything", "host/search.py", "    check_rows(path, begun)\n", "", SEARCH + " -k damaged"),
    Defect("search: what found nothing stays", "host/search.py", "isinstance(fronts, dict) and not any(fronts.values())", "False", SEARCH + " -k none_within"),
    Defect("search: arrays are modelled again", "host/search.py", ' and columns not in rows.get(board, {}).get(name, {})', "", SEARCH + " -k cut_run"),
    Defect("search: another model's answers", "quant/search_answers.py", "if all(metadata.get(k) == v for k, v in of.items()) else None", "", "tests/quant/test_search_answers.py -k computed_once"),
    # What a switch costs, and the memory plan.
    Defect("switching: each write is free", "fpga/switching.py", "seconds = moved_bytes / (assumed(\"copy_gb_s\") * 1e9) + writes * assumed(\"write_us\") * 1e-6", "seconds = moved_bytes / (assumed(\"copy_gb_s\") * 1e9) + assumed(\"write_us\") * 1e-6", SWITCHING),
    Defect("switching: bytes cross the DDR once", "fpga/switching.py", "_joules(board, seconds, moved_bytes * assumed(\"copy_traffic\"), VALUES)", "_joules(board, seconds, moved_bytes, VALUES)", SWITCHING + " -k by_hand"),
    Defect("switching: a reload without KEEP", "fpga/switching.py", "return found + keeping(plan.board, plan.simulate_keeping(clock_mhz)) if resident else found", "return found", SWITCHING),
    Defect("memory plan: the buffer of the first task", "host/memory_plan.py", "largest = max((ways[0] for ways in named.values()), key=lambda plan: plan.task.bytes)", "largest = next(iter(named.values()))[0]", MEMORY_PLAN + " -k Sums"),
    Defect("memory plan: the task's first region is the backbone's too", "host/memory_plan.py", "        if offset < end:\n", "        if offset <= end:\n", MEMORY_PLAN + " -k Sums"),
    Defect("memory plan: the FFN's operand ends with attention's", "host/memory_plan.py", "end = max(start + words for start, words in regions.values())", "end = min(at.context + blocks * hidden, at.ffn + blocks * at.ffn_stride)", MEMORY_PLAN + " -k over_begin"),
    Defect("memory plan: any plans are of one backbone", "host/memory_plan.py", "if any(_front(plan) != _front(first) for plan in ways):", "if any(plan.board != first.board for plan in ways):", MEMORY_PLAN + " -k Refused"),
    Defect("memory plan: the picture's blocks of one height", "host/memory_plot.py", "parts.append(_block(x, at, BLOCK, row.bytes * per_byte, row))\n                if", "parts.append(_block(x, at, BLOCK, height / len(memory.rows), row))\n                if", MEMORY_PLAN + " -k Picture"),
    # Tasks in one engine.
    Defect("tasks: a piece a beat short", "host/task_set.py", "self.area[at : at + piece.bytes]", "self.area[at : at + piece.bytes - 16]", IN_USE + " -k moves_the_pieces"),
    Defect("tasks: the area whole, stale columns too", "host/task_set.py", "else own.pieces:", "else (own,):", IN_USE + " -k moves_the_pieces"),
    Defect("tasks: the backbone again at a switch", "host/loaded_engine.py", "        for at, data in self._task.pieces():\n", "        self._write(0, np.array(self._image[: self.plan.task.offset]))\n        for at, data in self._task.pieces():\n", IN_USE + " -k moves_the_pieces"),
    Defect("tasks: a piece at the offset in its area", "host/task_set.py", "yield piece.offset, self.area", "yield at, self.area", IN_USE + " -k stays_as_it_was"),
    Defect("tasks: resident weights again at a switch", "host/loaded_engine.py", "moved, self._written = 0, None", "moved, self._written, self._kept_after = 0, None, -1", IN_USE + " -k resident_weights_stay"),
    Defect("tasks: bytes not counted", "host/loaded_engine.py", "        self.switched_bytes += moved\n", "", IN_USE + " -k moves_the_pieces"),
    Defect("tasks: switches not counted", "host/loaded_engine.py", "        self.switches += 1\n", "", IN_USE + " -k in_order"),
    Defect("tasks: answers as the first task's", "host/engine.py", "said = [self._task.answer(", "said = [next(iter(self._tasks.values())).answer(", IN_USE + " -k all_that_is"),
    Defect("tasks: the first task's encoder", "host/loaded_engine.py", "return self._task.encoder", "return next(iter(self._tasks.values())).encoder", IN_USE + " -k all_that_is"),
    Defect("tasks: one logit scale for all", "host/task_set.py", 'float(model.manifest["scales"]["logits"])', "1 / 1500", IN_USE + " -k all_that_is"),
    Defect("tasks: figures of the task before", "host/loaded_engine.py", "        self.meter.use(task.plan)\n", "", IN_USE + " -k figures_are"),
    Defect("tasks: a reading for every task's passes", "host/meter.py", "key = id(self.plan), row_blocks, clock_mhz", "key = 0, row_blocks, clock_mhz", IN_USE + " -k figures_are"),
    Defect("tasks: half a switch is one", "host/loaded_engine.py", "if self._written is not self._task:", "if False:", IN_USE + " -k made_up_for"),
    Defect("tasks: the exit table is forgotten", "host/task_set.py", "            self.area[at : at + table.size] = table\n", "", IN_USE + " -k brings_the_exit_table"),
    Defect("tasks: one image, too small for the largest", "host/task_set.py", "np.zeros(largest - image.size, np.uint8)", "np.zeros(0, np.uint8)", IN_USE + " -k goldens_after"),
    Defect("tasks: results as they ran", "host/task_queue.py", "found[index] = run(index)", "found[told] = run(index)", IN_USE + " -k results_are_in_order"),
    Defect("tasks: the one in use waits", "host/task_queue.py", "(tasks[index] != in_use, first[tasks[index]], index)", "(first[tasks[index]], index)", IN_USE + " -k wider_windows"),
    Defect("tasks: an item is looked at when it runs", "host/task_queue.py", "            check_item(number, item, tasks)\n", "            pass\n", IN_USE + " -k told_before"),
    Defect("tasks: a bad line takes its window with it", "host/task_queue.py", "    except Exception as error:\n        fault = error\n    if window:", "    finally:\n        pass\n    if window:", "tests/host/test_task_queue.py"),
    # More than one board.
    Defect("fleet: sentences tried alone in reverse", "host/fleet_stream.py", "extendleft(reversed(alone))", "extendleft(alone)", FLEET + " -k sentence_that"),
    Defect("fleet: the first of a chunk is blamed", "host/fleet_stream.py", "            if chunk.alone:\n", "            if True:\n", FLEET + " -k sentence_that"),
    Defect("fleet: all is read at once", "host/fleet_stream.py", "self._held < self.most or self._stopped", "True", FLEET + " -k reader_waits"),
    Defect("fleet: an engine for each chunk", "host/fleet_worker.py", "    if _held is not None and _held[0] == settings:\n        return", "    if False:\n        return", FLEET + " -k keeps_it"),
    Defect("fleet: any model will do", "host/fleet_worker.py", "if (found := digest(folder)) != settings.sha256:", "if not (found := digest(folder)):", FLEET + " -k another_model"),
    Defect("fleet: a pass as often as sentences", "host/fleet.py", "answered.engine_ms / len(answered.results)", "answered.engine_ms", FLEET + " -k packed_answers"),
    Defect("fleet: passes of what there is", "host/fleet_stream.py", "max(self.least, -(-waiting // idle))", "-(-waiting // idle)", FLEET + " -k has_a_window"),
    Defect("fleet: who dies again is given up", "host/fleet_cluster.py", 'LOST = "24 h"', 'LOST = "100 ms"', FLEET + " -k long_to_come"),
    Defect("estimate: what is spared is padding", "fpga/estimate.py", '"padding_waste": 1 - dense_macs / whole if whole', '"padding_waste": 1 - dense_macs / timing.array_macs_executed if whole', "tests/fpga/test_estimate.py"),
    Defect("batching: labels of another task", "host/bench/labelled.py", "if sorted(known) != sorted(labels):", "if len(known) > 9:", "tests/host/bench/test_batching.py -k refuses"),
    # Several sentences a pass.
    Defect("packed: the first waits on", "host/packer.py", "filled, chosen = sums[-1].bit_length() - 1, [0]", "filled, chosen = sums[-1].bit_length() - 1, [0][:len(rows) % 2]", "tests/host/test_packer.py"),
    Defect("packed: as they come, not as they fill", "host/packer.py", "if not sums[n - 1] >> filled & 1:", "if filled >= rows[n]:", "tests/host/test_packer.py"),
    Defect("packed: a job after a failure", "host/overlap.py", "if self._failed:", "if False:", "tests/host/test_overlap.py"),
    Defect("packed: jobs without end are made", "host/overlap.py", "if len(running) == AHEAD:", "if len(running) == 8:", "tests/host/test_overlap.py"),
    Defect("packed: a fault before the answers", "host/packed.py", "            fault = error\n        else:", "            raise\n        else:", "tests/host/test_packed.py -k Faults"),
    Defect("packed: one buffer for all passes", "host/engine.py", "turns = cycle(self._ios)", "turns = cycle(self._ios[:1])", "tests/host/test_packed.py -k host_works"),
    Defect("packed: another pass meanwhile", "host/loaded_engine.py", "if self._packed is not None:\n            raise", "if False:\n            raise", "tests/host/test_packed.py -k nothing_else"),
    # Continuous batching.
    Defect("queue: an entry over the one that lives", KERNELS + "fetch_queue.hpp", "first_free(taken | fresh, count)", "first_free(fresh, count)", QUEUE),
    Defect("queue: two entries in one place", KERNELS + "fetch_queue.hpp", "first_free(taken | fresh, count)", "first_free(taken, count)", QUEUE),
    Defect("queue: the section runs over all", KERNELS + "fetch_queue.hpp", "    state.live = rows_of_mask(fresh);\n", "    state.live = rows_of_mask(fresh | taken);\n", QUEUE),
    Defect("queue: tokens of the new ones stay", KERNELS + "fetch_queue.hpp", "state.owed = state.pushed - state.popped;", "state.owed = 0;", QUEUE),
    Defect("queue: every step in one place", KERNELS + "fetch_exit.hpp", "state.queue.steps * i.word[13]", "0 * i.word[13]", QUEUE),
    Defect("queue: keys where the entry was written", KERNELS + "vector_unit.hpp", "& uint<64>(255)) + first_row);\n      state.key_end", "& uint<64>(255)));\n      state.key_end", QUEUE),
    Defect("queue: a new sentence as deep as the one before", KERNELS + "exit.hpp", "  e.depth[t] = uint<6>(0);\n", "", QUEUE),
    Defect("queue: all are as deep as the last", KERNELS + "exit.hpp", "const uint<6> layer = c.counted == 1 ? depth : c.layer;", "const uint<6> layer = c.layer;", QUEUE),
    Defect("queue: rows of another row block", KERNELS + "load.hpp", "const int first = c.row_block.to_int() * kLanes;", "const int first = 0;", QUEUE),
    Defect("queue: lanes one after the other", "host/sentence_queue.py", "block * isa.BLOCK_LANES + begins[:n].count(block)", "n + 0 * block", QUEUE),
    Defect("queue: a sentence's first row block alone", "host/sentence_queue.py", "(end - 1) // isa.LANES + 1)", "begin // isa.LANES + 1)", QUEUE),
    Defect("queue: the cycle model forgets who left", "fpga/expansion.py", "self.live = old, tuple(sorted(fresh)) or old", "self.live = old, tuple(sorted({*fresh, *old}))", "tests/host/test_expansion.py -k test_queues and zcu102"),
    Defect("queue: layers that differ", "host/tied.py", "if same != name and not np.array_equal", "if False and not np.array_equal", "tests/host/test_queue_pass.py -k differs_is_named"),
    Defect("tied: a stream of its own behind the layer", "quant/tied.py", "        if group != _STREAM:\n", "        if True:\n", "tests/quant/test_tied.py -k same_integers"),
    Defect("tied: peaks of the first place", "quant/tied.py", "torch.stack([peaks[one] for one in of_all]).amax(dim=0)", "peaks[of_all[0]]", "tests/quant/test_tied.py -k peaks"),
    Defect("tied: only the last answer is trained", "quant/every_layer.py", "s.early * torch.stack", "0 * s.early * torch.stack", "tests/quant/test_tied_stages.py -k answer_was_trained"),
)  # fmt: skip
