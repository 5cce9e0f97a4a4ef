// SPDX-License-Identifier: Apache-2.0
// Three weights of -7 .. 7 a DSP48E2, 11 bits apart, times an activation of -128 .. 127. A product has 11 bits, so the
// fields leave no room to sum in P: each is taken out in every cycle, less the borrow of the one below, and summed in
// fabric. Counted by benchmarks/per_dsp.py, not built.
module three_weights #(
    parameter int SUM = 24
) (
    input  logic           clk,
    input  logic    [29:0] w_in,    // n2 * 2^22 + n1 * 2^11 + n0
    output logic    [29:0] w_out,
    input  logic    [ 7:0] a,
    input  logic           add,
    output logic [SUM-1:0] sum0,
    output logic [SUM-1:0] sum1,
    output logic [SUM-1:0] sum2
);

  logic [47:0] p;
  logic add_1, add_2, add_3;
  always_ff @(posedge clk) {add_1, add_2, add_3} <= {add, add_1, add_2};

  DSP48E2 #(
      .A_INPUT("CASCADE"), .B_INPUT("DIRECT"), .AMULTSEL("A"), .BMULTSEL("B"), .PREADDINSEL("A"),
      .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48"), .USE_PATTERN_DETECT("NO_PATDET"),
      .AREG(1), .ACASCREG(1), .BREG(1), .BCASCREG(1), .CREG(1), .DREG(1), .ADREG(1), .MREG(1), .PREG(1),
      .OPMODEREG(1), .ALUMODEREG(0), .INMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0)
  ) dsp (
      .CLK(clk), .A(30'd0), .ACIN(w_in), .B({{10{a[7]}}, a}), .BCIN(18'd0), .C({48{1'b1}}), .D({27{1'b1}}),
      .PCIN(48'd0), .CARRYIN(1'b0), .CARRYCASCIN(1'b0), .MULTSIGNIN(1'b0), .CARRYINSEL(3'd0), .ALUMODE(4'd0),
      .INMODE(5'd0), .OPMODE(9'b000000101), .CEA1(1'b0), .CEA2(1'b1), .CEB1(1'b0), .CEB2(1'b1), .CEC(1'b0),
      .CED(1'b0), .CEAD(1'b0), .CEM(1'b1), .CEP(1'b1), .CECTRL(1'b1), .CEALUMODE(1'b0), .CEINMODE(1'b0),
      .CECARRYIN(1'b0), .RSTA(1'b0), .RSTB(1'b0), .RSTC(1'b0), .RSTD(1'b0), .RSTM(1'b0), .RSTP(1'b0),
      .RSTCTRL(1'b0), .RSTALUMODE(1'b0), .RSTINMODE(1'b0), .RSTALLCARRYIN(1'b0), .ACOUT(w_out), .P(p)
  );

  logic signed [10:0] field0, field1, field2;
  logic borrow1, borrow2;
  assign field0 = p[10:0];
  assign field1 = p[21:11];
  assign field2 = p[32:22];
  assign borrow1 = p[10];
  assign borrow2 = p[21] && !(&p[20:11] && p[10]);  // of field1 with its borrow added

  always_ff @(posedge clk) begin
    sum0 <= (add_3 ? sum0 : '0) + SUM'(field0);
    sum1 <= (add_3 ? sum1 : '0) + SUM'(field1) + SUM'(borrow1);
    sum2 <= (add_3 ? sum2 : '0) + SUM'(field2) + SUM'(borrow2);
  end

endmodule
