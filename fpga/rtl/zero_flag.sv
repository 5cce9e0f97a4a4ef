// SPDX-License-Identifier: Apache-2.0
// Whether one row's activation is 0, a cycle behind it.
module zero_flag (
    input  logic       clk,
    input  logic [8:0] a,
    output logic       zero
);

  always_ff @(posedge clk) zero <= a == 9'd0;

endmodule
