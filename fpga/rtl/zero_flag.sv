// SPDX-License-Identifier: Apache-2.0
// Whether an activation is 0, a cycle behind it.
module zero_flag (
    input  logic       clk,
    input  logic [7:0] a,
    output logic       zero
);

  always_ff @(posedge clk) zero <= a == 8'd0;

endmodule
