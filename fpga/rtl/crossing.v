// SPDX-License-Identifier: Apache-2.0
// One bit from any clock to `clk`: q is d two edges later, or three where d changed just then.
module crossing #(
    parameter INITIAL = 1'b0
) (
    input  wire clk,
    input  wire d,
    output wire q
);

  (* ASYNC_REG = "TRUE" *) reg [1:0] stage = {2{INITIAL}};
  always @(posedge clk) stage <= {stage[0], d};
  assign q = stage[1];

endmodule
