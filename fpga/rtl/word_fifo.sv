// SPDX-License-Identifier: Apache-2.0
// The accumulator stream: DEPTH words or a few more, in block RAM. Nothing checks for room on the way in: who writes
// has counted. A word can leave three cycles after it was written.
module word_fifo #(
    parameter int WIDTH = 864,
    parameter int DEPTH = 256,
    localparam int ADDRESS = $clog2(DEPTH)
) (
    input  logic             clk,
    input  logic             resetn,
    input  logic             write,
    input  logic [WIDTH-1:0] word_in,
    output logic             valid,
    input  logic             ready,
    output logic [WIDTH-1:0] word_out
);

  (* ram_style = "block" *) logic [WIDTH-1:0] words[1<<ADDRESS];
  logic [WIDTH-1:0] latch;
  logic [ADDRESS:0] written, taken;
  logic latched, move_out, move;

  assign move_out = !valid || ready;
  assign move = !latched || move_out;

  always_ff @(posedge clk) begin
    if (write) words[written[ADDRESS-1:0]] <= word_in;
    if (move) latch <= words[taken[ADDRESS-1:0]];
    if (move_out) word_out <= latch;
  end

  always_ff @(posedge clk)
    if (!resetn) begin
      written <= '0;
      taken <= '0;
      latched <= 1'b0;
      valid <= 1'b0;
    end else begin
      if (write) written <= written + 1'b1;
      if (move) begin
        latched <= written != taken;
        if (written != taken) taken <= taken + 1'b1;
      end
      if (move_out) valid <= latched;
    end

endmodule
