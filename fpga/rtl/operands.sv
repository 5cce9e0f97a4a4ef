// SPDX-License-Identifier: Apache-2.0
// From the words of the memories to what enters the array, a register behind: activations of 9 bits, 0 in a bubble or a
// tile of zeros; weights split into their nibbles, w4: both signed, w8: the low one unsigned.
module operands #(
    parameter int ROWS = 32,
    parameter int PAIRS = 64
) (
    input  logic               clk,
    input  logic               take,             // this word is a step's
    input  logic               zero,
    input  logic               unsigned_operand,
    input  logic               w8,
    input  logic               keys_values,
    input  logic [ 8*ROWS-1:0] activations,
    input  logic [8*PAIRS-1:0] weights,
    input  logic [8*PAIRS-1:0] key_values,
    output logic [ 9*ROWS-1:0] a,
    output logic [9*PAIRS-1:0] w
);

  generate
    for (genvar t = 0; t < ROWS; t++) begin : g_row
      activation_edge activation_edge (
          .clk(clk), .take(take && !zero), .unsigned_operand(unsigned_operand), .byte_in(activations[8*t+:8]), .a(a[9*t+:9])
      );
    end
    for (genvar j = 0; j < PAIRS; j++) begin : g_pair
      nibbles nibbles (
          .clk(clk),
          .w8(w8),
          .keys_values(keys_values),
          .weight(weights[8*j+:8]),
          .key_value(key_values[8*j+:8]),
          .w(w[9*j+:9])
      );
    end
  endgenerate

endmodule
