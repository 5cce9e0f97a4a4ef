// SPDX-License-Identifier: Apache-2.0
// One row's activation: int8 or uint8 as 9 signed bits, or 0.
module activation_edge (
    input  logic       clk,
    input  logic       take,
    input  logic       unsigned_operand,
    input  logic [7:0] byte_in,
    output logic [8:0] a
);

  always_ff @(posedge clk) a <= take ? {byte_in[7] && !unsigned_operand, byte_in} : 9'd0;

endmodule
