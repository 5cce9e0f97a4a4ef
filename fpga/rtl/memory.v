// SPDX-License-Identifier: Apache-2.0
// A memory between two units: one port writes, one reads, on one clock, as the ap_memory ports of Vitis HLS want it
// with latency = 2.
//
// read_ce gates both registers of the read port. HLS holds ce from the cycle of the address to the cycle before it
// takes the data, and takes it away from a pipeline that stalls: a word under way has to stand still with the
// pipeline, else it would overwrite the word before it that is still to be taken. HLS's own two-cycle memories do the
// same. So a word is at read_q after two edges with read_ce, and stays until the next. With STALLS = 0 read_ce gates the
// first register alone: for the array, whose reads never stall, a word is there two edges after its read_ce and stays
// until another was asked for, so that only an access works.
//
// A word read in the very cycle it is written: here the old word, in an UltraRAM perhaps the new one. No unit does
// that: a token, which takes longer, comes between.
//
// ram_decomp = "power": of the blocks that make up the depth only the one that holds the word is enabled in an access.
//
// ADDRESS_WIDTH is the number of bits that DEPTH - 1 takes, a parameter of its own because the block design evaluates
// no function in the width of a port. Nothing but what was written may be read.
module memory #(
    parameter integer WIDTH = 64,
    parameter integer DEPTH = 1280,
    parameter integer ADDRESS_WIDTH = 11,
    parameter integer STALLS = 1,
    parameter STYLE = "auto"  // ram_style: ultra, block, distributed or auto
) (
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 clk CLK" *)
    input  wire                     clk,
    input  wire [ADDRESS_WIDTH-1:0] write_address,
    input  wire                     write_ce,
    input  wire                     write_we,
    input  wire [        WIDTH-1:0] write_d,
    input  wire [ADDRESS_WIDTH-1:0] read_address,
    input  wire                     read_ce,
    output reg  [        WIDTH-1:0] read_q
);

  (* ram_style = STYLE, ram_decomp = "power" *) reg [WIDTH-1:0] words[0:DEPTH-1];
  reg [WIDTH-1:0] word;

  always @(posedge clk) if (write_ce && write_we) words[write_address] <= write_d;

  always @(posedge clk) if (read_ce) word <= words[read_address];
  always @(posedge clk) if (read_ce || STALLS == 0) read_q <= word;

endmodule
