// SPDX-License-Identifier: Apache-2.0
// Up to three cells of one row, and their stop on the drain.
//
// Activations go from column to column, a register between two columns of a group and none between two groups. Column i
// of group g is so 2 g + i cycles behind column 0, and its sum is on `p` for one cycle at least, before the next tile
// replaces it.
//
// Every second column (ODD: of this group's, the first is none of them) chooses its activation out of the block that
// goes along the row, by the two bits that come down with its weights; the column behind it takes the same, a cycle
// later. Where a tile chooses nothing all choices are 0 and the other activations of the block stand still. With their
// sign, which goes along with the block, they are int8 or uint8 in nine bits.
//
// In its cycle on `p` `select` is i and puts it on the drain, which moves a group a cycle towards column 0: the
// sums of a row arrive there one a cycle, in order, without a register of their own to wait in. `select` = 3 passes on
// what comes from the group behind: a choice of four is one LUT a bit.
module mac_group #(
    parameter int COLUMNS = 3,
    parameter bit ODD = 1'b0,
    parameter int BLOCK = 4,
    parameter bit TOP = 1'b0,
    parameter int BITS = 47,  // of a sum: a high field of 24 bits on a low one of 23 (Q4, Q5)
    localparam int CHOICES = ODD ? (COLUMNS + 2) / 3 : 2  // an odd group has one; ports of what it has not do nothing
) (
    input  logic                  clk,
    input  logic [   8*BLOCK-1:0] block_in,
    input  logic                  signed_in,
    input  logic [     BLOCK-1:0] block_zero_in,
    output logic [   8*BLOCK-1:0] block_out,
    output logic                  signed_out,
    output logic [     BLOCK-1:0] block_zero_out,
    input  logic [           8:0] a_in,           // that the column before this group's first has chosen
    input  logic                  a_zero_in,
    output logic [           8:0] a_out,
    output logic                  a_zero_out,
    input  logic                  add_in,
    output logic                  add_out,
    input  logic [ 2*CHOICES-1:0] choice_in,
    output logic [ 2*CHOICES-1:0] choice_out,
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

  assign a_out = a[9*COLUMNS-1-:9];
  assign a_zero_out = a_zero[COLUMNS-1];
  assign add_out = add[COLUMNS-1];

  logic unused;  // by a group whose first column chooses
  assign unused = &{1'b0, a_in, a_zero_in};

  // The flags of zeros come a cycle behind what they tell of, as choices go on to the row below.
  always_ff @(posedge clk) choice_out <= choice_in;

  generate
    for (genvar i = 0; i < COLUMNS; i++) begin : g_hand_on
      logic [8*BLOCK-1:0] block;
      logic has_sign;
      logic [BLOCK-1:0] block_zero;
      if (i == 0) begin : g_first
        assign block = block_in;
        assign has_sign = signed_in;
        assign block_zero = block_zero_in;
        assign add[0] = add_in;
      end else begin : g_later
        always_ff @(posedge clk) begin
          block <= g_hand_on[i-1].block;
          has_sign <= g_hand_on[i-1].has_sign;
          block_zero <= g_hand_on[i-1].block_zero;
          add[i] <= add[i-1];
        end
      end
      if ((i + 32'(ODD)) % 2 == 0) begin : g_choose
        logic [7:0] chosen;
        assign chosen = block[8*choice_in[2*(i/2)+:2]+:8];
        assign a[9*i+:9] = {chosen[7] && has_sign, chosen};
        assign a_zero[i] = block_zero[choice_out[2*(i/2)+:2]];
      end else if (i == 0) begin : g_take
        assign a[8:0] = a_in;
        assign a_zero[0] = a_zero_in;
      end else begin : g_take
        always_ff @(posedge clk) begin
          a[9*i+:9] <= a[9*i-9+:9];
          a_zero[i] <= a_zero[i-1];
        end
      end
    end
    assign block_out = g_hand_on[COLUMNS-1].block;
    assign signed_out = g_hand_on[COLUMNS-1].has_sign;
    assign block_zero_out = g_hand_on[COLUMNS-1].block_zero;
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
