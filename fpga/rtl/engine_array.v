// SPDX-License-Identifier: Apache-2.0
// The MAC array as the block design takes it: streams, ports of two-cycle memories, one clock (docs/mac-array.md). The
// contract is that of kernels/mac_array.hpp.
//
// A command is laid out as C lays out kernels/commands.hpp's array_command, which is how Vitis HLS (UG1399) pads a
// struct on a stream: each field in the least of 1, 2, 4, 8 bytes that hold it, on a multiple of that. An accumulator
// word holds each lane in 32 bits, sign-extended from 27. A token is a byte whose value means nothing. A word of weights
// is a byte a pair of columns and, behind them, two bits of choice for every two pairs.
//
// Key/value ports beyond COLUMNS / (2 * ROWS) are not used: key_value_2 with 128 columns.
module engine_array #(
    parameter integer ROWS = 32,
    parameter integer COLUMNS = 128
) (
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 ap_clk CLK" *)
    (* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF commands:weights_ready:weights_free:data_ready:accumulators, ASSOCIATED_RESET ap_rst_n" *)
    input  wire                 ap_clk,
    (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 ap_rst_n RST" *)
    (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)
    input  wire                 ap_rst_n,

    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 commands TDATA" *)
    input  wire [        143:0] commands_tdata,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 commands TVALID" *)
    input  wire                 commands_tvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 commands TREADY" *)
    output wire                 commands_tready,

    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 weights_ready TDATA" *)
    input  wire [          7:0] weights_ready_tdata,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 weights_ready TVALID" *)
    input  wire                 weights_ready_tvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 weights_ready TREADY" *)
    output wire                 weights_ready_tready,

    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 weights_free TDATA" *)
    output wire [          7:0] weights_free_tdata,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 weights_free TVALID" *)
    output wire                 weights_free_tvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 weights_free TREADY" *)
    input  wire                 weights_free_tready,

    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 data_ready TDATA" *)
    input  wire [          7:0] data_ready_tdata,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 data_ready TVALID" *)
    input  wire                 data_ready_tvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 data_ready TREADY" *)
    output wire                 data_ready_tready,

    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 accumulators TDATA" *)
    output wire [  32*ROWS-1:0] accumulators_tdata,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 accumulators TVALID" *)
    output wire                 accumulators_tvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 accumulators TREADY" *)
    input  wire                 accumulators_tready,

    output wire [         12:0] activations_0_address0,
    output wire                 activations_0_ce0,
    input  wire [   8*ROWS-1:0] activations_0_q0,
    output wire [         12:0] activations_1_address0,
    output wire                 activations_1_ce0,
    input  wire [   8*ROWS-1:0] activations_1_q0,
    output wire [         12:0] activations_2_address0,
    output wire                 activations_2_ce0,
    input  wire [   8*ROWS-1:0] activations_2_q0,
    output wire [         12:0] activations_3_address0,
    output wire                 activations_3_ce0,
    input  wire [   8*ROWS-1:0] activations_3_q0,
    output wire [         13:0] weights_address0,
    output wire                 weights_ce0,
    input  wire [COLUMNS*9/2-1:0] weights_q0,
    output wire [         12:0] key_value_0_address0,
    output wire                 key_value_0_ce0,
    input  wire [   8*ROWS-1:0] key_value_0_q0,
    output wire [         12:0] key_value_1_address0,
    output wire                 key_value_1_ce0,
    input  wire [   8*ROWS-1:0] key_value_1_q0,
    output wire [         12:0] key_value_2_address0,
    output wire                 key_value_2_ce0,
    input  wire [   8*ROWS-1:0] key_value_2_q0
);

  localparam integer PAIRS = COLUMNS / 2;
  localparam integer GROUP = 3;    // columns that share a stop of the drain: with what passes by, a choice of four
  localparam integer GROUPS = (PAIRS + GROUP - 1) / GROUP;
  localparam integer BLOCK = 4;    // activations that a pair of columns may choose of
  localparam integer BITS = 47;    // of a sum
  localparam integer WAITING = 6;  // address of the sums that wait in a row: half of 96, and some
  localparam integer WORDS = 4 * COLUMNS;

  wire take, zero, unsigned_operand, w8, keys_values, chosen, add;
  wire [1:0] bank;
  wire [2*GROUPS-1:0] select;
  wire write, read, read_high, read_w8;
  wire [WAITING-1:0] write_address, read_address;
  wire [8*ROWS*BLOCK-1:0] a;
  wire a_signed;
  wire [9*PAIRS-1:0] w;
  wire [PAIRS-1:0] choice;
  wire [BITS*ROWS-1:0] sum;
  wire word_valid;
  wire [27*ROWS-1:0] word, word_out;
  wire [24*ROWS-1:0] key_values = {key_value_2_q0, key_value_1_q0, key_value_0_q0};

  assign weights_free_tdata = 8'd1;
  assign activations_1_address0 = activations_0_address0;
  assign activations_2_address0 = activations_0_address0;
  assign activations_3_address0 = activations_0_address0;
  assign key_value_1_address0 = key_value_0_address0;
  assign key_value_1_ce0 = key_value_0_ce0;
  assign key_value_2_address0 = key_value_0_address0;
  assign key_value_2_ce0 = key_value_0_ce0;

  array_control #(
      .PAIRS(PAIRS),
      .GROUP(GROUP),
      .ADDRESS(WAITING),
      .WORDS(WORDS)
  ) control (
      .clk(ap_clk),
      .resetn(ap_rst_n),
      .command_valid(commands_tvalid),
      .command_ready(commands_tready),
      .command_w8(commands_tdata[0]),
      .command_unsigned(commands_tdata[8]),
      .command_keys_values(commands_tdata[16]),
      .command_weights(commands_tdata[32+:14]),
      .command_operand(commands_tdata[48+:15]),
      .command_key_value(commands_tdata[64+:13]),
      .command_k(commands_tdata[80+:13]),
      .command_words(commands_tdata[96+:8]),
      .command_pop_weights(commands_tdata[104]),
      .command_push_weights(commands_tdata[112]),
      .command_pop_data(commands_tdata[120+:8]),
      .command_zero(commands_tdata[128]),
      .command_bound(commands_tdata[137:136]),
      .weights_ready(weights_ready_tvalid),
      .weights_ready_taken(weights_ready_tready),
      .data_ready(data_ready_tvalid),
      .data_ready_taken(data_ready_tready),
      .weights_free(weights_free_tvalid),
      .weights_free_taken(weights_free_tready),
      .word_left(accumulators_tvalid && accumulators_tready),
      .activations_address(activations_0_address0),
      .weights_address(weights_address0),
      .key_values_address(key_value_0_address0),
      .activations_ce({activations_3_ce0, activations_2_ce0, activations_1_ce0, activations_0_ce0}),
      .weights_ce(weights_ce0),
      .key_values_ce(key_value_0_ce0),
      .take(take),
      .zero(zero),
      .unsigned_operand(unsigned_operand),
      .w8(w8),
      .keys_values(keys_values),
      .chosen(chosen),
      .bank(bank),
      .add(add),
      .select(select),
      .write(write),
      .write_address(write_address),
      .read(read),
      .read_address(read_address),
      .read_high(read_high),
      .read_w8(read_w8)
  );

  operands #(
      .ROWS (ROWS),
      .PAIRS(PAIRS),
      .BLOCK(BLOCK)
  ) operands (
      .clk(ap_clk),
      .take(take),
      .zero(zero),
      .unsigned_operand(unsigned_operand),
      .w8(w8),
      .keys_values(keys_values),
      .chosen(chosen),
      .bank(bank),
      .activations({activations_3_q0, activations_2_q0, activations_1_q0, activations_0_q0}),
      .weights(weights_q0[8*PAIRS-1:0]),
      .choices(weights_q0[9*PAIRS-1:8*PAIRS]),
      .key_values(key_values[8*PAIRS-1:0]),
      .a(a),
      .a_signed(a_signed),
      .w(w),
      .choice(choice)
  );

  mac_array #(
      .ROWS (ROWS),
      .PAIRS(PAIRS),
      .GROUP(GROUP),
      .BLOCK(BLOCK),
      .BITS (BITS)
  ) array (
      .clk(ap_clk),
      .a(a),
      .a_signed(a_signed),
      .add(add),
      .w(w),
      .choice(choice),
      .select(select),
      .sum(sum)
  );

  drain #(
      .ROWS(ROWS),
      .BITS(BITS),
      .ADDRESS(WAITING)
  ) drain (
      .clk(ap_clk),
      .resetn(ap_rst_n),
      .write(write),
      .write_address(write_address),
      .read(read),
      .read_address(read_address),
      .high(read_high),
      .w8(read_w8),
      .sum(sum),
      .valid(word_valid),
      .accumulators(word)
  );

  word_fifo #(
      .WIDTH(27 * ROWS),
      .DEPTH(WORDS)
  ) stream (
      .clk(ap_clk),
      .resetn(ap_rst_n),
      .write(word_valid),
      .word_in(word),
      .valid(accumulators_tvalid),
      .ready(accumulators_tready),
      .word_out(word_out)
  );

  genvar t;
  generate
    for (t = 0; t < ROWS; t = t + 1) begin : g_lane
      assign accumulators_tdata[32*t+:32] = {{5{word_out[27*t+26]}}, word_out[27*t+:27]};
    end
  endgenerate

endmodule
