// SPDX-License-Identifier: Apache-2.0
// From the words of the memories to what enters the array, a register behind: activations, 0 in a bubble or a
// tile of zeros, and whether they have a sign, a block of them where the pairs choose, else the one of `bank` in its first place; weights split into their nibbles, w4: both signed, w8: the low one unsigned.
module operands #(
    parameter int ROWS = 32,
    parameter int PAIRS = 64,
    parameter int BLOCK = 4
) (
    input  logic                    clk,
    input  logic                    take,              // this word is a step's
    input  logic                    zero,
    input  logic                    unsigned_operand,
    input  logic                    w8,
    input  logic                    keys_values,
    input  logic                    chosen,
    input  logic [             1:0] bank,              // 0 where chosen
    input  logic [8*ROWS*BLOCK-1:0] activations,
    input  logic [     8*PAIRS-1:0] weights,
    input  logic [       PAIRS-1:0] choices,
    input  logic [     8*PAIRS-1:0] key_values,
    output logic [8*ROWS*BLOCK-1:0] a,
    output logic                    a_signed,
    output logic [     9*PAIRS-1:0] w,
    output logic [       PAIRS-1:0] choice
);

  always_ff @(posedge clk) a_signed <= !unsigned_operand;
  always_ff @(posedge clk) choice <= chosen && !keys_values ? choices : '0;

  generate
    for (genvar t = 0; t < ROWS; t++) begin : g_row
      logic [8*BLOCK-1:0] bytes;
      for (genvar i = 0; i < BLOCK; i++) begin : g_block
        assign bytes[8*i+:8] = activations[8*(ROWS*i+t)+:8];
        if (i == 0) begin : g_first
          activation_edge #(.BANKS(BLOCK)) activation_edge (
              .clk(clk), .take(take && !zero), .bank(bank), .bytes(bytes), .a(a[8*t+:8])
          );
        end else begin : g_other
          activation_edge activation_edge (
              .clk(clk), .take(take && !zero && chosen), .bank(2'd0), .bytes(bytes[8*i+:8]), .a(a[8*(ROWS*i+t)+:8])
          );
        end
      end
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
