// SPDX-License-Identifier: Apache-2.0
// One row's activation, of one of the banks, or 0.
module activation_edge #(
    parameter int BANKS = 1
) (
    input  logic               clk,
    input  logic               take,
    input  logic [        1:0] bank,
    input  logic [8*BANKS-1:0] bytes,
    output logic [        7:0] a
);

  logic [7:0] chosen;
  always_ff @(posedge clk) a <= take ? chosen : 8'd0;

  generate
    if (BANKS == 1) begin : g_only
      logic unused;
      assign unused = &{1'b0, bank};
      assign chosen = bytes;
    end else begin : g_choose
      assign chosen = bytes[8*bank+:8];
    end
  endgenerate

endmodule
