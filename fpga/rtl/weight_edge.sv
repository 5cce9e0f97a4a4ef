// SPDX-License-Identifier: Apache-2.0
// The way of one pair's weights to row 0: SKEW cycles late, then spread to the multiplier's operand n1 * 2^23 + n0.
// `zero` is whether it is 0: those nine bits are then, and only then.
// Of n1 * 2^23 + n0 the upper four bits are n1 less the borrow of a negative n0, the lower 23 are n0.
module weight_edge #(
    parameter int SKEW = 0
) (
    input  logic        clk,
    input  logic [ 8:0] w,
    output logic [29:0] operand,
    output logic        zero
);

  logic [8:0] late;
  delay #(.WIDTH(9), .DEPTH(SKEW)) skew (.clk(clk), .d(w), .q(late));
  assign operand = {{3{late[8]}}, late[8:5], {19{late[4]}}, late[3:0]};
  assign zero = late == 9'd0;

endmodule
