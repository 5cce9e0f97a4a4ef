// SPDX-License-Identifier: Apache-2.0
// Beside each DSP48E2: tells the bench of every cycle in which its multiplier's or its adder's register is enabled.
module enabled_cycles (
    input wire clk,
    input wire multiplies,
    input wire adds
);
  import "DPI-C" function void zq_enabled(
    input bit multiplies,
    input bit adds
  );
  always @(posedge clk) if (multiplies || adds) zq_enabled(multiplies, adds);
endmodule

bind DSP48E2 enabled_cycles enabled_cycles (
    .clk(CLK),
    .multiplies(CEM),
    .adds(CEP)
);
