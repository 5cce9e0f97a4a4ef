// SPDX-License-Identifier: Apache-2.0
// What UG572 says of BUFGMUX_CTRL, for simulation: the old clock's high phase is finished, the output stays low until
// the new clock falls, then follows it. With +plain_mux it is a bare multiplexer that glitches.
module BUFGMUX_CTRL (
    input  wire I0,
    input  wire I1,
    input  wire S,
    output wire O
);
  reg plain;
  initial plain = $test$plusargs("plain_mux") != 0;

  reg on0 = 1'b1, on1 = 1'b0;
  always @(negedge I0) on0 <= ~S & ~on1;
  always @(negedge I1) on1 <= S & ~on0;

  assign O = plain ? (S ? I1 : I0) : (I0 & on0) | (I1 & on1);
endmodule
