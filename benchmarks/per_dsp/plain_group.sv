// SPDX-License-Identifier: Apache-2.0
// What rtl/mac_group.sv would be if nothing chose: an activation a step. Counted by benchmarks/per_dsp.py, not built.
module plain_group #(
    parameter int COLUMNS = 3,
    parameter bit TOP = 1'b0,
    parameter int BITS = 47  // of a sum: a high field of 24 bits on a low one of 23 (Q4, Q5)
) (
    input  logic                  clk,
    input  logic [           8:0] a_in,
    input  logic                  add_in,
    input  logic                  a_zero_in,
    output logic [           8:0] a_out,
    output logic                  add_out,
    output logic                  a_zero_out,
    input  logic [30*COLUMNS-1:0] w_in,
    input  logic [   COLUMNS-1:0] w_zero_in,
    output logic [30*COLUMNS-1:0] w_out,
    output logic [   COLUMNS-1:0] w_zero_out,
    input  logic [           1:0] select,
    input  logic [      BITS-1:0] drain_in,
    output logic [      BITS-1:0] drain_out
);
  /* verilator no_inline_module */

  logic [9*COLUMNS-1:0] a;
  logic [COLUMNS-1:0] add, a_zero;

  assign a[8:0] = a_in;
  assign add[0] = add_in;
  assign a_zero[0] = a_zero_in;
  assign a_out = a[9*COLUMNS-1-:9];
  assign add_out = add[COLUMNS-1];
  assign a_zero_out = a_zero[COLUMNS-1];

  generate
    for (genvar i = 1; i < COLUMNS; i++) begin : g_hand_on
      always_ff @(posedge clk) begin
        a[9*i+:9] <= a[9*i-9+:9];
        add[i] <= add[i-1];
        a_zero[i] <= a_zero[i-1];
      end
    end
    for (genvar i = 0; i < 3; i++) begin : g_column
      logic [BITS-1:0] sum;
      if (i < COLUMNS) begin : g_cell
        logic [47:0] p;
        mac_cell #(.TOP(TOP)) mac (
            .clk(clk),
            .w_in(w_in[30*i+:30]),
            .w_zero_in(w_zero_in[i]),
            .w_out(w_out[30*i+:30]),
            .w_zero_out(w_zero_out[i]),
            .a(a[9*i+:9]),
            .add(add[i]),
            .a_zero(a_zero[i]),
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
