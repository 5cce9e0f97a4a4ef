# SPDX-License-Identifier: Apache-2.0
"""A cycle model whose passes can be counted on paper."""

from zynqbert.fpga.cycles import Model

# Every overhead and latency 0, every loop of n trips n cycles; fetch reads an instruction in 4
# cycles, so that commands of the first one are there at cycle 4.
BARE = Model(
    depths=dict.fromkeys(Model().depths, 1),
    command_overhead=0,
    loop_overhead=0,
    array_depth=0,
    array_start=0,
    array_shortest=0,
    token_latency=0,
    fetch_command_cycles=0,
    ddr_bytes_per_second=1e18,
    axi_read_latency_ns=0,
    axi_write_latency_ns=0,
    start_done_cycles=0,
)
