// SPDX-License-Identifier: Apache-2.0
// q is d DEPTH edges later. No reset, so that synthesis makes shift registers of LUTs.
module delay #(
    parameter int WIDTH = 1,
    parameter int DEPTH = 1
) (
    input  logic             clk,
    input  logic [WIDTH-1:0] d,
    output logic [WIDTH-1:0] q
);

  generate
    if (DEPTH == 0) begin : g_wire
      assign q = d;
    end else begin : g_registers
      logic [WIDTH-1:0] stage[DEPTH];
      always_ff @(posedge clk) begin
        stage[0] <= d;
        for (int i = 1; i < DEPTH; i++) stage[i] <= stage[i-1];
      end
      assign q = stage[DEPTH-1];
    end
  endgenerate

endmodule
