// SPDX-License-Identifier: Apache-2.0
// One pair's weight: {n1 less borrow, sign of n0, n0}, from the byte n1 * 16 + n0 (Q4; w8: n0 unsigned, Q5).
// 27 bits of operand hold n1 >= -7 with a borrow: nibble 0x8 is no weight of w4.
module nibbles (
    input  logic       clk,
    input  logic       w8,
    input  logic [7:0] byte_in,
    output logic [8:0] w
);

  logic negative;
  assign negative = byte_in[3] && !w8;
  always_ff @(posedge clk) w <= {byte_in[7:4] - {3'b000, negative}, negative, byte_in[3:0]};

endmodule
