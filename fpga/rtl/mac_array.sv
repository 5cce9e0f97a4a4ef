// SPDX-License-Identifier: Apache-2.0
// ROWS x PAIRS cells without a stall (docs/mac-array.md). Row t runs t cycles behind row 0, which column skew adds to.
//
// w: a field of 9 bits a pair, {n1 less borrow, sign of n0, n0}; choice: two bits for every two pairs; a: the BLOCK
// activations of each row's block, a byte each, of which the pairs take those that choice names; a_signed comes with them; `add` comes a cycle after a and is 0
// for a tile's first step; select: two bits a group, for row 0. sum: what arrives at column 0 of each row, row t's t cycles late.
module mac_array #(
    parameter int ROWS = 32,
    parameter int PAIRS = 64,
    parameter int GROUP = 3,
    parameter int BLOCK = 4,
    parameter int BITS = 47,
    localparam int GROUPS = (PAIRS + GROUP - 1) / GROUP
) (
    input  logic                    clk,
    input  logic [8*ROWS*BLOCK-1:0] a,
    input  logic                    a_signed,
    input  logic                    add,
    input  logic [     9*PAIRS-1:0] w,
    input  logic [       PAIRS-1:0] choice,
    input  logic [    2*GROUPS-1:0] select,
    output logic [   BITS*ROWS-1:0] sum
);

  generate
    // Weights: each pair as late as its column, then n1 * 2^23 + n0 in the 27 bits of the multiplier.
    for (genvar g = 0; g < GROUPS; g++) begin : g_top
      localparam int COLUMNS = g == GROUPS - 1 ? PAIRS - GROUP * g : GROUP;
      logic [30*COLUMNS-1:0] weights;
      logic [COLUMNS-1:0] zeros;
      localparam int CHOICES = g % 2 == 1 ? (COLUMNS + 2) / 3 : 2;
      logic [2*CHOICES-1:0] choices;
      for (genvar i = 0; i < COLUMNS; i++) begin : g_weight
        weight_edge #(.SKEW((GROUP - 1) * g + i)) weight_edge (
            .clk(clk), .w(w[9*(GROUP*g+i)+:9]), .operand(weights[30*i+:30]), .zero(zeros[i])
        );
      end
      // Choice c is that of column 2 c, and as late.
      for (genvar i = 0; i < CHOICES; i++) begin : g_choice
        localparam int CHOICE = (GROUP * g + 1) / 2 + i;
        if (2 * CHOICE < GROUP * g + COLUMNS) begin : g_there
          delay #(.WIDTH(2), .DEPTH((GROUP - 1) * g + 2 * CHOICE - GROUP * g)) skew (
              .clk(clk), .d(choice[2*CHOICE+:2]), .q(choices[2*i+:2])
          );
        end else begin : g_none
          assign choices[2*i+:2] = 2'd0;
        end
      end
    end

    for (genvar t = 0; t < ROWS; t++) begin : g_row
      logic [2*GROUPS-1:0] selects;
      logic adds, signeds;
      if (t == 0) begin : g_control
        assign selects = select;
        assign adds = add;
        assign signeds = a_signed;
      end else begin : g_control
        always_ff @(posedge clk) begin
          selects <= g_row[t-1].selects;
          adds <= g_row[t-1].adds;
          signeds <= g_row[t-1].signeds;
        end
      end

      logic [8*BLOCK-1:0] late;
      logic [BLOCK-1:0] late_zero;
      for (genvar i = 0; i < BLOCK; i++) begin : g_block
        delay #(.WIDTH(8), .DEPTH(t)) skew (.clk(clk), .d(a[8*(ROWS*i+t)+:8]), .q(late[8*i+:8]));
        zero_flag zero_flag (.clk(clk), .a(late[8*i+:8]), .zero(late_zero[i]));
      end

      for (genvar g = 0; g < GROUPS; g++) begin : g_group
        localparam int COLUMNS = g == GROUPS - 1 ? PAIRS - GROUP * g : GROUP;
        localparam int CHOICES = g % 2 == 1 ? (COLUMNS + 2) / 3 : 2;
        logic [8*BLOCK-1:0] block_in, block_out;
        logic [BLOCK-1:0] block_zero_in, block_zero_out;
        logic [8:0] a_in, a_out;
        logic signed_in, signed_out;
        logic add_in, add_out, a_zero_in, a_zero_out;
        logic [2*CHOICES-1:0] choice_in, choice_out;
        logic [30*COLUMNS-1:0] w_in, w_out;
        logic [COLUMNS-1:0] w_zero_in, w_zero_out;
        logic [BITS-1:0] behind, drained;
        if (g == 0) begin : g_activation
          assign block_in = late;
          assign signed_in = signeds;
          assign block_zero_in = late_zero;
          assign a_in = 9'd0;  // column 0 chooses
          assign a_zero_in = 1'b1;
          assign add_in = adds;
        end else begin : g_activation
          assign block_in = g_row[t].g_group[g-1].block_out;
          assign signed_in = g_row[t].g_group[g-1].signed_out;
          assign block_zero_in = g_row[t].g_group[g-1].block_zero_out;
          assign a_in = g_row[t].g_group[g-1].a_out;
          assign a_zero_in = g_row[t].g_group[g-1].a_zero_out;
          assign add_in = g_row[t].g_group[g-1].add_out;
        end
        if (t == 0) begin : g_weights
          assign w_in = g_top[g].weights;
          assign w_zero_in = g_top[g].zeros;
          assign choice_in = g_top[g].choices;
        end else begin : g_weights
          assign w_in = g_row[t-1].g_group[g].w_out;
          assign w_zero_in = g_row[t-1].g_group[g].w_zero_out;
          assign choice_in = g_row[t-1].g_group[g].choice_out;
        end
        if (g == GROUPS - 1) begin : g_drain
          assign behind = '0;
        end else begin : g_drain
          assign behind = g_row[t].g_group[g+1].drained;
        end
        mac_group #(.COLUMNS(COLUMNS), .ODD(g % 2 == 1), .BLOCK(BLOCK), .TOP(t == 0), .BITS(BITS)) group (
            .clk(clk),
            .block_in(block_in),
            .signed_in(signed_in),
            .block_zero_in(block_zero_in),
            .block_out(block_out),
            .signed_out(signed_out),
            .block_zero_out(block_zero_out),
            .a_in(a_in),
            .a_zero_in(a_zero_in),
            .a_out(a_out),
            .a_zero_out(a_zero_out),
            .add_in(add_in),
            .add_out(add_out),
            .choice_in(choice_in),
            .choice_out(choice_out),
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
