// SPDX-License-Identifier: Apache-2.0
// What UG572 says of BUFGCE, for simulation: CE is looked at while the clock is low; a change of CE within the setup
// time before the clock rises may glitch, so it is counted.
module BUFGCE (
    input  wire I,
    input  wire CE,
    output wire O
);
  localparam [63:0] SETUP_PS = 64'd500;  // more than any of the parts asks, so that a crossing is found soon

  reg open = 1'b0;
  always @(I or CE) if (!I) open = CE;
  assign O = I & open;

  reg [63:0] changed = 64'd0;
  reg [31:0] violations = 32'd0;
  always @(CE) changed = $time;
  always @(posedge I) if (changed != 64'd0 && $time - changed < SETUP_PS) violations <= violations + 32'd1;
endmodule
