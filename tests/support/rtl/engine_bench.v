// SPDX-License-Identifier: Apache-2.0
// engine_control and clock_select as the block design joins them, with a model of fetch and counters on the engine's
// clock in place of the engine.
module engine_bench #(
    parameter [63:0] ID = 64'd0
) (
    input  wire         fixed_clk,
    input  wire         fixed_resetn,
    input  wire         clk0,
    input  wire         clk1,
    input  wire         clk2,
    input  wire         clk3,
    input  wire [ 15:0] awaddr,
    input  wire         awvalid,
    output wire         awready,
    input  wire [ 31:0] wdata,
    input  wire [  3:0] wstrb,
    input  wire         wvalid,
    output wire         wready,
    output wire [  1:0] bresp,
    output wire         bvalid,
    input  wire         bready,
    input  wire [ 15:0] araddr,
    input  wire         arvalid,
    output wire         arready,
    output wire [ 31:0] rdata,
    output wire [  1:0] rresp,
    output wire         rvalid,
    input  wire         rready,
    output wire         irq,
    output wire         engine_clk,
    input  wire [ 31:0] run_cycles,
    input  wire [ 31:0] run_early,
    input  wire [ 31:0] run_lingers,
    input  wire         run_hangs,
    input  wire [ 31:0] run_status,
    input  wire [ 63:0] run_detail,
    input  wire [ 31:0] ask_cycle,
    input  wire [ 31:0] ask_output,
    input  wire [ 31:0] ask_again,
    input  wire [ 31:0] ask_last,
    output wire         engine_idle,
    output wire [255:0] arguments,
    output wire [ 31:0] starts,
    output wire [ 31:0] moved,
    output wire [ 31:0] violations,
    output reg  [ 63:0] engine_cycles,  // since power-up
    output reg  [ 63:0] unit_cycles,    // since the last reset
    output reg  [ 31:0] reset_cycles    // length of the last reset
);
  wire [1:0] select;
  wire enable, engine_resetn;
  wire ap_start, ap_done, ap_ready, ap_idle, status_ap_vld, detail_ap_vld;
  wire [63:0] program_address, image_address, io_address, detail;
  wire [31:0] instructions, row_blocks, status, clock_output;
  wire clock_output_ap_vld;

  engine_control #(
      .ID(ID)
  ) control (
      .fixed_clk(fixed_clk),
      .fixed_resetn(fixed_resetn),
      .s_axi_control_awaddr(awaddr),
      .s_axi_control_awvalid(awvalid),
      .s_axi_control_awready(awready),
      .s_axi_control_wdata(wdata),
      .s_axi_control_wstrb(wstrb),
      .s_axi_control_wvalid(wvalid),
      .s_axi_control_wready(wready),
      .s_axi_control_bresp(bresp),
      .s_axi_control_bvalid(bvalid),
      .s_axi_control_bready(bready),
      .s_axi_control_araddr(araddr),
      .s_axi_control_arvalid(arvalid),
      .s_axi_control_arready(arready),
      .s_axi_control_rdata(rdata),
      .s_axi_control_rresp(rresp),
      .s_axi_control_rvalid(rvalid),
      .s_axi_control_rready(rready),
      .interrupt(irq),
      .clock_select(select),
      .clock_enable(enable),
      .engine_clk(engine_clk),
      .engine_resetn(engine_resetn),
      .ap_start(ap_start),
      .ap_done(ap_done),
      .ap_ready(ap_ready),
      .ap_idle(ap_idle),
      .program_address(program_address),
      .image_address(image_address),
      .io_address(io_address),
      .instructions(instructions),
      .row_blocks(row_blocks),
      .status(status),
      .status_ap_vld(status_ap_vld),
      .detail(detail),
      .detail_ap_vld(detail_ap_vld),
      .clock_output(clock_output),
      .clock_output_ap_vld(clock_output_ap_vld)
  );

  clock_select clocks (
      .clk0(clk0),
      .clk1(clk1),
      .clk2(clk2),
      .clk3(clk3),
      .select(select),
      .enable(enable),
      .engine_clk(engine_clk)
  );
  assign violations = clocks.gate.violations;

  assign engine_idle = ap_idle;

  fetch_model fetch (
      .clk(engine_clk),
      .resetn(engine_resetn),
      .ap_start(ap_start),
      .ap_done(ap_done),
      .ap_ready(ap_ready),
      .ap_idle(ap_idle),
      .program_address(program_address),
      .image_address(image_address),
      .io_address(io_address),
      .instructions(instructions),
      .row_blocks(row_blocks),
      .status(status),
      .status_ap_vld(status_ap_vld),
      .detail(detail),
      .detail_ap_vld(detail_ap_vld),
      .clock_output(clock_output),
      .clock_output_ap_vld(clock_output_ap_vld),
      .cycles(run_cycles),
      .early(run_early),
      .lingers(run_lingers),
      .hang(run_hangs),
      .answer_status(run_status),
      .answer_detail(run_detail),
      .ask_cycle(ask_cycle),
      .ask_output(ask_output),
      .ask_again(ask_again),
      .ask_last(ask_last),
      .arguments(arguments),
      .starts(starts),
      .moved(moved)
  );

  reg was_reset;
  initial engine_cycles = 64'd0;
  always @(posedge engine_clk) begin
    engine_cycles <= engine_cycles + 64'd1;
    unit_cycles <= engine_resetn ? unit_cycles + 64'd1 : 64'd0;
    was_reset <= ~engine_resetn;
    if (!engine_resetn) reset_cycles <= was_reset ? reset_cycles + 32'd1 : 32'd1;
  end
endmodule
