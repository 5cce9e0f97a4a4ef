// SPDX-License-Identifier: Apache-2.0
// The engine's clock: one of the wizard's four outputs, or none.
//
// `select` and `enable` come from the fixed clock of engine_control and are asynchronous to every clock here. `enable`
// goes through two registers on the chosen clock, as BUFGCE asks for its setup time, and takes effect within four
// cycles of it: the last pulse is whole. `select` needs no register: BUFGMUX_CTRL lets it change at any time (BUFGMUX
// would glitch), and engine_control changes it only while the gate is shut, 64 fixed cycles after it shut it and 64
// before it opens it. So the gate would let nothing through even of multiplexers that glitch. At 100 MHz fixed, 64
// cycles are 6.4 of a 10 MHz output: four to shut, or three for each of the two levels of multiplexers.
//
// While the gate is shut an input may do anything (the wizard is being retuned), but a change of `select` ends only
// when both the old and the new input run.
//
// The tool has to time gate_open -> BUFGCE.CE on chosen_clk as it is, and to leave out `select` and `enable`.
module clock_select (
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 clk0 CLK" *)
    input  wire       clk0,
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 clk1 CLK" *)
    input  wire       clk1,
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 clk2 CLK" *)
    input  wire       clk2,
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 clk3 CLK" *)
    input  wire       clk3,
    input  wire [1:0] select,
    input  wire       enable,
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 engine_clk CLK" *)
    output wire       engine_clk
);

  wire low_clk, high_clk, chosen_clk;

  BUFGMUX_CTRL low_mux (.I0(clk0), .I1(clk1), .S(select[0]), .O(low_clk));
  BUFGMUX_CTRL high_mux (.I0(clk2), .I1(clk3), .S(select[0]), .O(high_clk));
  BUFGMUX_CTRL mux (.I0(low_clk), .I1(high_clk), .S(select[1]), .O(chosen_clk));

  wire gate_open;
  crossing gate_enable (.clk(chosen_clk), .d(enable), .q(gate_open));
  BUFGCE gate (.I(chosen_clk), .CE(gate_open), .O(engine_clk));

endmodule
