// SPDX-License-Identifier: Apache-2.0
// One row and column pair: a DSP48E2 with P = w * a on a tile's first step and P += w * a on the others.
//
// w and a are taken in one cycle, `add` (0 on a first step) in the next, and the step is in p three cycles after w and a. The weight goes
// on to the row below through the cascade of the DSPs' column, a cycle later. So a bubble is a = 0: nothing here stops.
//
// A product that is zero changes nothing, so multiplier and adder stand still: M and P are enabled where neither operand
// is zero, and on a tile's first step, which has to load P. The operands bring what they are: `w_zero` comes with w and
// goes on with it, `a_zero` comes with `add`.
module mac_cell #(
    parameter bit TOP = 1'b0  // first row: the weight comes from outside, not from the cell above
) (
    input  logic        clk,
    input  logic [29:0] w_in,
    input  logic        w_zero_in,
    output logic [29:0] w_out,
    output logic        w_zero_out,
    input  logic [ 8:0] a,
    input  logic        add,
    input  logic        a_zero,
    output logic [47:0] p
);

  logic multiplies, adds;
  assign multiplies = !add || !(w_zero_out || a_zero);

  always_ff @(posedge clk) begin
    w_zero_out <= w_zero_in;
    adds <= multiplies;
  end

  // Unused ports as UG579 asks: C and D all ones behind registers that stand still.
  DSP48E2 #(
      .A_INPUT(TOP ? "DIRECT" : "CASCADE"),
      .B_INPUT("DIRECT"),
      .AMULTSEL("A"),
      .BMULTSEL("B"),
      .PREADDINSEL("A"),
      .USE_MULT("MULTIPLY"),
      .USE_SIMD("ONE48"),
      .USE_PATTERN_DETECT("NO_PATDET"),
      .AREG(1),
      .ACASCREG(1),
      .BREG(1),
      .BCASCREG(1),
      .CREG(1),
      .DREG(1),
      .ADREG(1),
      .MREG(1),
      .PREG(1),
      .OPMODEREG(1),
      .ALUMODEREG(0),
      .INMODEREG(0),
      .CARRYINREG(0),
      .CARRYINSELREG(0)
  ) dsp (
      .CLK(clk),
      .A(TOP ? w_in : 30'd0),
      .ACIN(TOP ? 30'd0 : w_in),
      .B({{9{a[8]}}, a}),
      .BCIN(18'd0),
      .C({48{1'b1}}),
      .D({27{1'b1}}),
      .PCIN(48'd0),
      .CARRYIN(1'b0),
      .CARRYCASCIN(1'b0),
      .MULTSIGNIN(1'b0),
      .CARRYINSEL(3'd0),
      .ALUMODE(4'd0),
      .INMODE(5'd0),
      .OPMODE({3'b000, add, 5'b00101}),
      .CEA1(1'b0),
      .CEA2(1'b1),
      .CEB1(1'b0),
      .CEB2(1'b1),
      .CEC(1'b0),
      .CED(1'b0),
      .CEAD(1'b0),
      .CEM(multiplies),
      .CEP(adds),
      .CECTRL(1'b1),
      .CEALUMODE(1'b0),
      .CEINMODE(1'b0),
      .CECARRYIN(1'b0),
      .RSTA(1'b0),
      .RSTB(1'b0),
      .RSTC(1'b0),
      .RSTD(1'b0),
      .RSTM(1'b0),
      .RSTP(1'b0),
      .RSTCTRL(1'b0),
      .RSTALUMODE(1'b0),
      .RSTINMODE(1'b0),
      .RSTALLCARRYIN(1'b0),
      .ACOUT(w_out),
      .P(p)
  );

endmodule
