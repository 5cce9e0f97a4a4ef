// SPDX-License-Identifier: Apache-2.0
// Stands for fpga/rtl/crossing.v: the first edge after a change of d takes it or not, at random, as a register that
// went metastable, or a wire that is late, would.
module crossing #(
    parameter INITIAL = 1'b0
) (
    input  wire clk,
    input  wire d,
    output wire q
);
  reg [1:0] stage = {2{INITIAL}};
  reg late = 1'b0;
  always @(posedge clk)
    if (d != stage[0] && !late && ($urandom & 32'd1) == 32'd1) begin
      late  <= 1'b1;
      stage <= {stage[0], stage[0]};
    end else begin
      late  <= 1'b0;
      stage <= {stage[0], d};
    end
  assign q = stage[1];
endmodule
