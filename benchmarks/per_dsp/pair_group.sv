// SPDX-License-Identifier: Apache-2.0
// What rtl/mac_group.sv would be if each pair of channels chose by itself. Counted by benchmarks/per_dsp.py, not built.
//
// The block goes from column to column as in the array; a choice goes down the rows with its weights.
module pair_group #(
    parameter int COLUMNS = 3,
    parameter int BLOCK = 4,
    parameter int BITS = 47,
    localparam int CHOICE = $clog2(BLOCK)
) (
    input  logic                      clk,
    input  logic [       8*BLOCK-1:0] a_in,
    input  logic                      signed_in,
    input  logic [         BLOCK-1:0] a_zero_in,
    input  logic                      add_in,
    output logic [       8*BLOCK-1:0] a_out,
    output logic                      signed_out,
    output logic [         BLOCK-1:0] a_zero_out,
    output logic                      add_out,
    input  logic [    30*COLUMNS-1:0] w_in,
    input  logic [       COLUMNS-1:0] w_zero_in,
    input  logic [CHOICE*COLUMNS-1:0] choice_in,
    output logic [    30*COLUMNS-1:0] w_out,
    output logic [       COLUMNS-1:0] w_zero_out,
    output logic [CHOICE*COLUMNS-1:0] choice_out,
    input  logic [               1:0] select,
    input  logic [          BITS-1:0] drain_in,
    output logic [          BITS-1:0] drain_out
);

  logic [8*BLOCK-1:0] a[COLUMNS];
  logic [BLOCK-1:0] a_zero[COLUMNS];
  logic [COLUMNS-1:0] add, has_sign;

  assign a[0] = a_in;
  assign has_sign[0] = signed_in;
  assign a_zero[0] = a_zero_in;
  assign add[0] = add_in;
  assign a_out = a[COLUMNS-1];
  assign signed_out = has_sign[COLUMNS-1];
  assign a_zero_out = a_zero[COLUMNS-1];
  assign add_out = add[COLUMNS-1];

  generate
    for (genvar i = 1; i < COLUMNS; i++) begin : g_hand_on
      always_ff @(posedge clk) begin
        a[i] <= a[i-1];
        has_sign[i] <= has_sign[i-1];
        a_zero[i] <= a_zero[i-1];
        add[i] <= add[i-1];
      end
    end
    for (genvar i = 0; i < 3; i++) begin : g_column
      logic [BITS-1:0] sum;
      if (i < COLUMNS) begin : g_cell
        logic [47:0] p;
        logic [CHOICE-1:0] now, next;
        logic [7:0] chosen;
        assign chosen = a[i][8*now+:8];
        assign now = choice_in[CHOICE*i+:CHOICE];
        assign choice_out[CHOICE*i+:CHOICE] = next;
        always_ff @(posedge clk) next <= now;
        mac_cell mac (
            .clk(clk),
            .w_in(w_in[30*i+:30]),
            .w_zero_in(w_zero_in[i]),
            .w_out(w_out[30*i+:30]),
            .w_zero_out(w_zero_out[i]),
            .a({chosen[7] && has_sign[i], chosen}),
            .add(add[i]),
            .a_zero(a_zero[i][next]),
            .p(p)
        );
        assign sum = p[BITS-1:0];
      end else begin : g_none
        assign sum = drain_in;
      end
    end
  endgenerate

  always_ff @(posedge clk)
    case (select)
      2'd0: drain_out <= g_column[0].sum;
      2'd1: drain_out <= g_column[1].sum;
      2'd2: drain_out <= g_column[2].sum;
      default: drain_out <= drain_in;
    endcase

endmodule
