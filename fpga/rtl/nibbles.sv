// SPDX-License-Identifier: Apache-2.0
// One pair's weight, from the weight buffer or the key/value memory: {n1 less borrow, sign of n0, n0}, from the byte n1 * 16 + n0 (Q4; w8: n0 unsigned, Q5).
// 27 bits of operand hold n1 >= -7 with a borrow: nibble 0x8 is no weight of w4.
module nibbles (
    input  logic       clk,
    input  logic       w8,
    input  logic       keys_values,  // take the second byte
    input  logic [7:0] weight,
    input  logic [7:0] key_value,
    output logic [8:0] w
);

  logic [7:0] chosen;
  logic negative;
  logic [3:0] borrow;  // out of the places below
  assign chosen = keys_values ? key_value : weight;
  assign negative = chosen[3] && !w8;
  assign borrow = {negative && chosen[6:4] == 3'd0, negative && chosen[5:4] == 2'd0, negative && !chosen[4], negative};
  always_ff @(posedge clk) w <= {chosen[7:4] ^ borrow, negative, chosen[3:0]};

endmodule
