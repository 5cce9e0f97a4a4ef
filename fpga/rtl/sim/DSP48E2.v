// SPDX-License-Identifier: Apache-2.0
// What the array uses of a DSP48E2 (UG579), for simulation: a 27 x 18 multiplier with one register at each operand,
// behind the multiplier and at P, and an adder that gives M or P + M. Other attributes are an error when the design is
// elaborated, other controls give wrong sums.
//
// Not a copy of the vendor's model, and never given to synthesis, which knows the primitive.
module DSP48E2 #(
    parameter A_INPUT = "DIRECT",
    parameter B_INPUT = "DIRECT",
    parameter AMULTSEL = "A",
    parameter BMULTSEL = "B",
    parameter PREADDINSEL = "A",
    parameter USE_MULT = "MULTIPLY",
    parameter USE_SIMD = "ONE48",
    parameter USE_PATTERN_DETECT = "NO_PATDET",
    parameter integer AREG = 1,
    parameter integer ACASCREG = 1,
    parameter integer BREG = 1,
    parameter integer BCASCREG = 1,
    parameter integer CREG = 1,
    parameter integer DREG = 1,
    parameter integer ADREG = 1,
    parameter integer MREG = 1,
    parameter integer PREG = 1,
    parameter integer OPMODEREG = 1,
    parameter integer ALUMODEREG = 1,
    parameter integer INMODEREG = 1,
    parameter integer CARRYINREG = 1,
    parameter integer CARRYINSELREG = 1
) (
    input  wire               CLK,
    input  wire signed [29:0] A,
    input  wire signed [29:0] ACIN,
    input  wire signed [17:0] B,
    input  wire signed [17:0] BCIN,
    input  wire        [47:0] C,
    input  wire        [26:0] D,
    input  wire        [47:0] PCIN,
    input  wire               CARRYIN,
    input  wire               CARRYCASCIN,
    input  wire               MULTSIGNIN,
    input  wire        [ 2:0] CARRYINSEL,
    input  wire        [ 3:0] ALUMODE,
    input  wire        [ 4:0] INMODE,
    input  wire        [ 8:0] OPMODE,
    input  wire               CEA1, CEA2, CEB1, CEB2, CEC, CED, CEAD, CEM, CEP, CECTRL, CEALUMODE, CEINMODE, CECARRYIN,
    input  wire               RSTA, RSTB, RSTC, RSTD, RSTM, RSTP, RSTCTRL, RSTALUMODE, RSTINMODE, RSTALLCARRYIN,
    output wire signed [29:0] ACOUT,
    output wire signed [47:0] P
);

  localparam [8:0] LOAD = 9'b00_000_01_01;        // P = M
  localparam [8:0] ACCUMULATE = 9'b00_010_01_01;  // P = P + M

  generate
    if ((A_INPUT != "DIRECT" && A_INPUT != "CASCADE") || B_INPUT != "DIRECT" || AMULTSEL != "A" || BMULTSEL != "B" ||
        PREADDINSEL != "A" || USE_MULT != "MULTIPLY" || USE_SIMD != "ONE48" || USE_PATTERN_DETECT != "NO_PATDET" ||
        AREG != 1 || ACASCREG != 1 || BREG != 1 || BCASCREG != 1 || CREG != 1 || DREG != 1 || ADREG != 1 || MREG != 1 ||
        PREG != 1 || OPMODEREG != 1 || ALUMODEREG != 0 || INMODEREG != 0 || CARRYINREG != 0 || CARRYINSELREG != 0) begin : g_refuse
      attribute_that_this_model_of_DSP48E2_lacks lacks ();  // no such module: elaboration ends here
    end
  endgenerate

  wire unlike = ALUMODE != 4'd0 || INMODE != 5'd0 || CARRYINSEL != 3'd0 || CARRYIN || CEA1 || CEB1 || CEC || CED || CEAD ||
      RSTA || RSTB || RSTC || RSTD || RSTM || RSTP || RSTCTRL || RSTALUMODE || RSTINMODE || RSTALLCARRYIN;

  reg signed [29:0] a2;
  reg signed [17:0] b2;
  reg signed [44:0] m;
  reg signed [47:0] p;
  reg        [ 8:0] opmode;

  assign ACOUT = a2;
  assign P = p;

  wire signed [44:0] product = $signed(a2[26:0]) * b2;

  always @(posedge CLK) begin
    if (CEA2) a2 <= A_INPUT == "CASCADE" ? ACIN : A;
    if (CEB2) b2 <= B;
    if (CEM) m <= product;
    if (CECTRL) opmode <= unlike ? 9'd0 : OPMODE;
    if (CEP)
      case (opmode)
        LOAD: p <= {{3{m[44]}}, m};
        ACCUMULATE: p <= p + {{3{m[44]}}, m};
        default: p <= ~p;  // not modelled
      endcase
  end

endmodule
