// SPDX-License-Identifier: Apache-2.0
// ROWS x PAIRS cells without a stall (docs/mac-array.md). Row t runs t cycles behind row 0, which column skew adds to.
//
// w: a field of 9 bits a pair, {n1 less borrow, sign of n0, n0}; a: 9 bits a row; `add` comes a cycle after a and is 0
// for a tile's first step; select: two bits a group, for row 0. sum: what arrives at column 0 of each row, row t's t cycles late.
module mac_array #(
    parameter int ROWS = 32,
    parameter int PAIRS = 64,
    parameter int GROUP = 3,
    parameter int BITS = 47,
    localparam int GROUPS = (PAIRS + GROUP - 1) / GROUP
) (
    input  logic                 clk,
    input  logic [   9*ROWS-1:0] a,
    input  logic                 add,
    input  logic [  9*PAIRS-1:0] w,
    input  logic [ 2*GROUPS-1:0] select,
    output logic [BITS*ROWS-1:0] sum
);

  generate
    // Weights: each pair as late as its column, then n1 * 2^23 + n0 in the 27 bits of the multiplier.
    for (genvar g = 0; g < GROUPS; g++) begin : g_top
      localparam int COLUMNS = g == GROUPS - 1 ? PAIRS - GROUP * g : GROUP;
      logic [30*COLUMNS-1:0] weights;
      logic [COLUMNS-1:0] zeros;
      for (genvar i = 0; i < COLUMNS; i++) begin : g_weight
        weight_edge #(.SKEW((GROUP - 1) * g + i)) weight_edge (
            .clk(clk), .w(w[9*(GROUP*g+i)+:9]), .operand(weights[30*i+:30]), .zero(zeros[i])
        );
      end
    end

    for (genvar t = 0; t < ROWS; t++) begin : g_row
      logic [2*GROUPS-1:0] selects;
      logic adds;
      if (t == 0) begin : g_control
        assign selects = select;
        assign adds = add;
      end else begin : g_control
        always_ff @(posedge clk) begin
          selects <= g_row[t-1].selects;
          adds <= g_row[t-1].adds;
        end
      end

      logic [8:0] late;
      logic late_zero;
      delay #(.WIDTH(9), .DEPTH(t)) skew (.clk(clk), .d(a[9*t+:9]), .q(late));
      zero_flag zero_flag (.clk(clk), .a(late), .zero(late_zero));

      for (genvar g = 0; g < GROUPS; g++) begin : g_group
        localparam int COLUMNS = g == GROUPS - 1 ? PAIRS - GROUP * g : GROUP;
        logic [8:0] a_in, a_out;
        logic add_in, add_out, a_zero_in, a_zero_out;
        logic [30*COLUMNS-1:0] w_in, w_out;
        logic [COLUMNS-1:0] w_zero_in, w_zero_out;
        logic [BITS-1:0] behind, drained;
        if (g == 0) begin : g_activation
          assign a_in = late;
          assign add_in = adds;
          assign a_zero_in = late_zero;
        end else begin : g_activation
          assign a_in = g_row[t].g_group[g-1].a_out;
          assign add_in = g_row[t].g_group[g-1].add_out;
          assign a_zero_in = g_row[t].g_group[g-1].a_zero_out;
        end
        if (t == 0) begin : g_weights
          assign w_in = g_top[g].weights;
          assign w_zero_in = g_top[g].zeros;
        end else begin : g_weights
          assign w_in = g_row[t-1].g_group[g].w_out;
          assign w_zero_in = g_row[t-1].g_group[g].w_zero_out;
        end
        if (g == GROUPS - 1) begin : g_drain
          assign behind = '0;
        end else begin : g_drain
          assign behind = g_row[t].g_group[g+1].drained;
        end
        mac_group #(.COLUMNS(COLUMNS), .TOP(t == 0), .BITS(BITS)) group (
            .clk(clk),
            .a_in(a_in),
            .add_in(add_in),
            .a_zero_in(a_zero_in),
            .a_out(a_out),
            .add_out(add_out),
            .a_zero_out(a_zero_out),
            .w_in(w_in),
            .w_zero_in(w_zero_in),
            .w_out(w_out),
            .w_zero_out(w_zero_out),
            .select(selects[2*g+:2]),
            .drain_in(behind),
            .drain_out(drained)
        );
      end
      assign sum[BITS*t+:BITS] = g_group[0].drained;
    end
  endgenerate

endmodule
