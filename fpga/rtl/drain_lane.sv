// SPDX-License-Identifier: Apache-2.0
// The end of one row: its sums wait here, are split into accumulators, and meet those of the other rows.
//
// Sums come one a cycle; in w4 each is two words of the drain, so up to half of a tile waits. Three registers from the
// address to the accumulator, then SKEW more.
//     hi = (P >> 23) + P[22],  lo = sign_extend(P[22:0]);  w4: lo, then hi; w8: 16 * hi + lo
module drain_lane #(
    parameter int DEPTH = 64,
    parameter int SKEW = 0,
    parameter int BITS = 47,
    localparam int ADDRESS = $clog2(DEPTH)
) (
    input  logic               clk,
    input  logic               write,
    input  logic [ADDRESS-1:0] write_address,
    input  logic [   BITS-1:0] sum,
    input  logic [ADDRESS-1:0] read_address,
    input  logic               high,           // w4: the odd column
    input  logic               w8,
    output logic [       26:0] accumulator
);

  (* ram_style = "distributed" *) logic [BITS-1:0] waiting[DEPTH];
  always_ff @(posedge clk) if (write) waiting[write_address] <= sum;

  logic [BITS-1:0] p;
  logic signed [23:0] hi;
  logic signed [22:0] lo;
  logic high_1, w8_1, high_2, w8_2;
  logic signed [26:0] acc;

  always_ff @(posedge clk) begin
    p <= waiting[read_address];
    {high_1, w8_1} <= {high, w8};
    hi <= p[46:23] + {23'd0, p[22]};
    lo <= p[22:0];
    {high_2, w8_2} <= {high_1, w8_1};
    acc <= (w8_2 ? {hi[22:0], 4'd0} : high_2 ? {{3{hi[23]}}, hi} : 27'd0) + (w8_2 || !high_2 ? {{4{lo[22]}}, lo} : 27'd0);
  end

  delay #(.WIDTH(27), .DEPTH(SKEW)) skew (.clk(clk), .d(acc), .q(accumulator));

endmodule
