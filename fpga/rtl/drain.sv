// SPDX-License-Identifier: Apache-2.0
// The ends of all rows. Control is for row 0 and goes from row to row, a cycle each; a word of all rows is there
// ROWS + 2 cycles after its read.
module drain #(
    parameter int ROWS = 32,
    parameter int BITS = 47,
    parameter int ADDRESS = 6
) (
    input  logic                 clk,
    input  logic                 resetn,
    input  logic                 write,
    input  logic [  ADDRESS-1:0] write_address,
    input  logic                 read,
    input  logic [  ADDRESS-1:0] read_address,
    input  logic                 high,
    input  logic                 w8,
    input  logic [BITS*ROWS-1:0] sum,
    output logic                 valid,
    output logic [  27*ROWS-1:0] accumulators
);

  logic [ROWS-1:0] writes, highs, w8s;
  logic [ROWS+2:0] reads;
  logic [ADDRESS-1:0] write_addresses[ROWS], read_addresses[ROWS];

  assign writes[0] = write;
  assign reads[0] = read;
  assign highs[0] = high;
  assign w8s[0] = w8;
  assign write_addresses[0] = write_address;
  assign read_addresses[0] = read_address;
  assign valid = reads[ROWS+2];

  always_ff @(posedge clk) begin
    for (int t = 1; t < ROWS; t++) begin
      write_addresses[t] <= write_addresses[t-1];
      read_addresses[t]  <= read_addresses[t-1];
      highs[t] <= highs[t-1];
      w8s[t] <= w8s[t-1];
    end
    if (!resetn) begin
      for (int t = 1; t < ROWS; t++) writes[t] <= 1'b0;
      for (int t = 1; t < ROWS + 3; t++) reads[t] <= 1'b0;
    end else begin
      for (int t = 1; t < ROWS; t++) writes[t] <= writes[t-1];
      for (int t = 1; t < ROWS + 3; t++) reads[t] <= reads[t-1];
    end
  end

  generate
    for (genvar t = 0; t < ROWS; t++) begin : g_row
      drain_lane #(.DEPTH(1 << ADDRESS), .SKEW(ROWS - 1 - t), .BITS(BITS)) lane (
          .clk(clk),
          .write(writes[t]),
          .write_address(write_addresses[t]),
          .sum(sum[BITS*t+:BITS]),
          .read_address(read_addresses[t]),
          .high(highs[t]),
          .w8(w8s[t]),
          .accumulator(accumulators[27*t+:27])
      );
    end
  endgenerate

endmodule
