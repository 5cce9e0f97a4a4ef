// SPDX-License-Identifier: Apache-2.0
// A pair of channels without a DSP: two products of a nibble and an activation of 9 bits, summed in fabric. Counted by
// benchmarks/per_dsp.py, not built.
module lut_pair #(
    parameter int SUM = 24
) (
    input  logic           clk,
    input  logic    [ 7:0] w_in,
    output logic    [ 7:0] w_out,
    input  logic    [ 8:0] a,
    input  logic           add,
    output logic [SUM-1:0] low,
    output logic [SUM-1:0] high
);

  logic signed [8:0] taken;
  logic signed [3:0] n0, n1;
  logic signed [12:0] product0, product1;
  logic add_1;

  assign n0 = w_out[3:0];
  assign n1 = w_out[7:4];

  always_ff @(posedge clk) begin
    w_out <= w_in;
    taken <= a;
    product0 <= n0 * taken;
    product1 <= n1 * taken;
    add_1 <= add;
    low <= (add_1 ? low : '0) + SUM'(product0);
    high <= (add_1 ? high : '0) + SUM'(product1);
  end

endmodule
