// SPDX-License-Identifier: Apache-2.0
// ROWS x PAIRS cells without a stall (docs/mac-array.md). Row t runs t cycles behind row 0, which column skew adds to.
//
// w: a field of 9 bits a pair, {n1 less borrow, sign of n0, n0}; a: 9 bits a row; `first` comes a cycle after the first
// step's a; select: three bits a group, for row 0. sum: what arrives at column 0 of each row, row t's t cycles late.
module mac_array #(
    parameter int ROWS = 32,
    parameter int PAIRS = 64,
    parameter int GROUP = 7,
    parameter int BITS = 47,
    localparam int GROUPS = (PAIRS + GROUP - 1) / GROUP
) (
    input  logic                 clk,
    input  logic [   9*ROWS-1:0] a,
    input  logic                 first,
    input  logic [  9*PAIRS-1:0] w,
    input  logic [ 3*GROUPS-1:0] select,
    output logic [BITS*ROWS-1:0] sum
);

  // Weights: each pair as late as its column, then n1 * 2^23 + n0 in the 27 bits of the multiplier.
  logic [30*PAIRS-1:0] weights[ROWS+1];
  logic [3*GROUPS-1:0] selects[ROWS];
  logic first_of_row[ROWS];

  generate
    for (genvar j = 0; j < PAIRS; j++) begin : g_weight
      weight_edge #(.SKEW(j - j / GROUP)) weight_edge (.clk(clk), .w(w[9*j+:9]), .operand(weights[0][30*j+:30]));
    end

    assign selects[0] = select;
    assign first_of_row[0] = first;

    for (genvar t = 0; t < ROWS; t++) begin : g_row
      if (t > 0) begin : g_control
        always_ff @(posedge clk) begin
          selects[t] <= selects[t-1];
          first_of_row[t] <= first_of_row[t-1];
        end
      end

      logic [9*(GROUPS+1)-1:0] a_of;
      logic [GROUPS:0] first_of;
      logic [BITS*(GROUPS+1)-1:0] drain;
      delay #(.WIDTH(9), .DEPTH(t)) skew (.clk(clk), .d(a[9*t+:9]), .q(a_of[8:0]));
      assign first_of[0] = first_of_row[t];
      assign drain[BITS*GROUPS+:BITS] = '0;
      assign sum[BITS*t+:BITS] = drain[BITS-1:0];

      for (genvar g = 0; g < GROUPS; g++) begin : g_group
        localparam int COLUMNS = g == GROUPS - 1 ? PAIRS - GROUP * g : GROUP;
        mac_group #(.COLUMNS(COLUMNS), .TOP(t == 0), .BITS(BITS)) group (
            .clk(clk),
            .a_in(a_of[9*g+:9]),
            .first_in(first_of[g]),
            .a_out(a_of[9*g+9+:9]),
            .first_out(first_of[g+1]),
            .w_in(weights[t][30*GROUP*g+:30*COLUMNS]),
            .w_out(weights[t+1][30*GROUP*g+:30*COLUMNS]),
            .select(selects[t][3*g+:3]),
            .drain_in(drain[BITS*g+BITS+:BITS]),
            .drain_out(drain[BITS*g+:BITS])
        );
      end
    end
  endgenerate

endmodule
