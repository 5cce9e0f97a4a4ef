// SPDX-License-Identifier: Apache-2.0
// Stands for fetch: an ap_ctrl_hs block as Vitis HLS makes them. It takes a run's arguments as it starts, ends after
// `cycles`, is ready `early` cycles before that, is idle `lingers` cycles after, or hangs; it may ask for a clock twice.
module fetch_model (
    input  wire        clk,
    input  wire        resetn,
    input  wire        ap_start,
    output wire        ap_done,
    output wire        ap_ready,
    output wire        ap_idle,
    input  wire [63:0] program_address,
    input  wire [63:0] image_address,
    input  wire [63:0] io_address,
    input  wire [31:0] instructions,
    input  wire [31:0] row_blocks,
    output wire [31:0] status,
    output wire        status_ap_vld,
    output wire [63:0] detail,
    output wire        detail_ap_vld,
    output wire [31:0] clock_output,
    output wire        clock_output_ap_vld,

    input  wire [ 31:0] cycles,         // at least 1
    input  wire [ 31:0] early,          // less than cycles
    input  wire [ 31:0] lingers,
    input  wire         hang,
    input  wire [ 31:0] answer_status,
    input  wire [ 63:0] answer_detail,
    input  wire [ 31:0] ask_cycle,      // of a run, in which it asks for a clock; 0: in none
    input  wire [ 31:0] ask_output,
    input  wire [ 31:0] ask_again,      // cycles later it asks once more, for ask_last; 0: not
    input  wire [ 31:0] ask_last,
    output reg  [255:0] arguments,      // of the last run: row_blocks, instructions, io, image, program
    output reg  [ 31:0] starts,
    output reg  [ 31:0] moved           // cycles in which the arguments were not those of the start
);
  wire [255:0] now = {row_blocks, instructions, io_address, image_address, program_address};
  reg running, accepted;
  reg [31:0] cycle, lingering;

  assign ap_idle = ~running & ~ap_start & lingering == 32'd0;
  assign ap_done = running & ~hang & cycle == cycles;
  assign ap_ready = running & ~hang & cycle == cycles - early;

  // Out of the one cycle in which they are valid the results are something else.
  assign status_ap_vld = ap_done;
  assign detail_ap_vld = ap_done;
  assign status = ap_done ? answer_status : ~answer_status;
  assign detail = ap_done ? answer_detail : ~answer_detail;
  wire asks = running & ask_cycle != 32'd0 & cycle == ask_cycle;
  wire asks_again = running & ask_again != 32'd0 & cycle == ask_cycle + ask_again;
  assign clock_output_ap_vld = asks | asks_again;
  assign clock_output = asks ? ask_output : asks_again ? ask_last : ~ask_output ^ {31'd0, cycle[0]};

  initial {starts, moved} = 64'd0;

  always @(posedge clk)
    if (!resetn) begin
      running   <= 1'b0;
      lingering <= 32'd0;
    end else if (lingering != 32'd0) begin
      lingering <= lingering - 32'd1;
    end else if (!running) begin
      if (ap_start) begin
        running   <= 1'b1;
        accepted  <= 1'b0;
        cycle     <= 32'd1;
        arguments <= now;
        starts    <= starts + 32'd1;
      end
    end else begin
      // A start that stays after ready is the next one.
      if (accepted && ap_start) starts <= starts + 32'd1;
      if (ap_ready) accepted <= 1'b1;
      if (now != arguments) moved <= moved + 32'd1;
      if (ap_done) begin
        running   <= 1'b0;
        lingering <= lingers;
      end
      cycle <= cycle + 32'd1;
    end
endmodule
