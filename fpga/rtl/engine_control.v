// SPDX-License-Identifier: Apache-2.0
// The engine's registers (docs/registers.md), its start and end, its reset, and the control of its clock.
//
// Two clocks: AXI4-Lite, the registers and the change of clock run on fixed_clk and answer whatever engine_clk does;
// the handshake with the engine (ap_ctrl_hs) and its reset run on engine_clk.
//
// AXI4-Lite: AW and W in any order, WSTRB honoured, one write and one read under way at a time. Where there is no
// register, reads give 0 and writes do nothing, both with OKAY: an error response would stop the processor.
//
// AP_CTRL, GIE, IER, ISR are those of Vitis HLS: start stays 1 until the engine has taken it; done and ready clear when
// AP_CTRL is read; ISR takes an event where IER has its bit, and toggles where a 1 is written; `interrupt` is a level,
// 1 while GIE is 1 and any bit of ISR. Idle is 1 between runs, from reset on. STATUS and DETAIL change only as a run
// ends. PROGRAM .. ROW_BLOCKS stand still while AP_CTRL is not idle: a write to them then does nothing.
//
// CLOCK: a change that the host asks for is made only between runs. Written while a program runs it waits for the run's end (or a reset), and
// CLOCK_STATUS says "changing" from the write until the clock is as CLOCK says. The clock is stopped, after
// SELECT_WAIT_CYCLES the output is chosen, after as many again the clock runs or stays stopped: CLOCK_STATUS is done
// 2 * SELECT_WAIT_CYCLES + 1 cycles after the write is answered, where nothing was in its way. CLOCK_STATUS says
// "stopped" only while nothing moves. A start waits for a change that was asked before it, and for a clock that runs.
//
// A program may choose an output for the rest of its run: fetch gives it as `clock_output`. An output below the limit,
// which is the lower of CLOCK's output and CLOCK_LIMIT as it arrives, becomes the limit. The clock is changed by the
// steps of CLOCK in the midst of the run: the engine stands still meanwhile, nothing is reset, what is under way goes
// on. A later choice takes the place of the one before; CLOCK waits for the run's end as ever. As the run ends, or is
// reset, the choice is forgotten: the clock goes back to what CLOCK says, and the next start waits for it. CLOCK_STATUS
// shows the output in use throughout, and "changing" while that moves; CLOCK_ENDED, from done on, the last run's.
//
// RESET ends the run, if there is one, without done: start, done, ready and ISR clear at once, AP_CTRL is idle, a
// change of CLOCK that waited is made. A stopped clock runs for the reset and is stopped again; CLOCK does not change.
// engine_resetn is low for 16 engine cycles and more. RESET reads 1 until the engine is out of reset and its clock as
// CLOCK says; a start written meanwhile is held. fixed_resetn does the same and clears all registers, so CLOCK asks for
// output 0, running, and gets there by the same steps. Nothing else resets the engine.
//
// Crossings (crossing.v): start, ready and done are toggles, reset a level that is answered. Arguments stand still from
// before start's toggle until done, results from before done's toggle until the next start. A choice of clock is a
// toggle too, answered by one: its word stands still until then, and the latest of those that came meanwhile follows. The tool has to bound the
// delay of all these paths to one cycle of the receiving clock.
module engine_control #(
    parameter [63:0] ID = 64'd0
) (
    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 fixed_clk CLK" *)
    (* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF s_axi_control, ASSOCIATED_RESET fixed_resetn" *)
    input  wire        fixed_clk,
    (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 fixed_resetn RST" *)
    (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)
    input  wire        fixed_resetn,

    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control AWADDR" *)
    (* X_INTERFACE_PARAMETER = "PROTOCOL AXI4LITE, DATA_WIDTH 32, ADDR_WIDTH 16" *)
    input  wire [15:0] s_axi_control_awaddr,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control AWVALID" *)
    input  wire        s_axi_control_awvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control AWREADY" *)
    output wire        s_axi_control_awready,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control WDATA" *)
    input  wire [31:0] s_axi_control_wdata,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control WSTRB" *)
    input  wire [ 3:0] s_axi_control_wstrb,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control WVALID" *)
    input  wire        s_axi_control_wvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control WREADY" *)
    output wire        s_axi_control_wready,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control BRESP" *)
    output wire [ 1:0] s_axi_control_bresp,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control BVALID" *)
    output reg         s_axi_control_bvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control BREADY" *)
    input  wire        s_axi_control_bready,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control ARADDR" *)
    input  wire [15:0] s_axi_control_araddr,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control ARVALID" *)
    input  wire        s_axi_control_arvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control ARREADY" *)
    output wire        s_axi_control_arready,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control RDATA" *)
    output reg  [31:0] s_axi_control_rdata,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control RRESP" *)
    output wire [ 1:0] s_axi_control_rresp,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control RVALID" *)
    output reg         s_axi_control_rvalid,
    (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axi_control RREADY" *)
    input  wire        s_axi_control_rready,

    (* X_INTERFACE_INFO = "xilinx.com:signal:interrupt:1.0 interrupt INTERRUPT" *)
    (* X_INTERFACE_PARAMETER = "SENSITIVITY LEVEL_HIGH" *)
    output wire        interrupt,

    // To clock_select, from fixed_clk.
    output reg  [ 1:0] clock_select,
    output reg         clock_enable,

    (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 engine_clk CLK" *)
    (* X_INTERFACE_PARAMETER = "ASSOCIATED_RESET engine_resetn" *)
    input  wire        engine_clk,
    (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 engine_resetn RST" *)
    (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)
    output reg         engine_resetn,

    // To and from fetch, on engine_clk but for the arguments.
    output reg         ap_start,
    input  wire        ap_done,
    input  wire        ap_ready,
    input  wire        ap_idle,
    output reg  [63:0] program_address,
    output reg  [63:0] image_address,
    output reg  [63:0] io_address,
    output reg  [31:0] instructions,
    output reg  [31:0] row_blocks,
    input  wire [31:0] status,
    input  wire        status_ap_vld,
    input  wire [63:0] detail,
    input  wire        detail_ap_vld,
    input  wire [31:0] clock_output,
    input  wire        clock_output_ap_vld
);

  `include "registers.vh"

  localparam [4:0] RESET_CYCLES = 5'd16;

  // AXI4-Lite: write

  reg aw_held, w_held;
  reg [13:0] write_word;
  reg [31:0] write_data;
  reg [3:0] write_strobe;
  wire write = aw_held & w_held & (~s_axi_control_bvalid | s_axi_control_bready);

  assign s_axi_control_awready = ~aw_held;
  assign s_axi_control_wready = ~w_held;
  assign s_axi_control_bresp = 2'b00;

  always @(posedge fixed_clk) begin
    if (s_axi_control_awvalid & ~aw_held) write_word <= s_axi_control_awaddr[15:2];
    if (s_axi_control_wvalid & ~w_held) begin
      write_data   <= s_axi_control_wdata;
      write_strobe <= s_axi_control_wstrb;
    end
    if (!fixed_resetn) begin
      aw_held <= 1'b0;
      w_held <= 1'b0;
      s_axi_control_bvalid <= 1'b0;
    end else begin
      aw_held <= (aw_held | s_axi_control_awvalid) & ~write;
      w_held <= (w_held | s_axi_control_wvalid) & ~write;
      s_axi_control_bvalid <= write | (s_axi_control_bvalid & ~s_axi_control_bready);
    end
  end

  function written(input [13:0] word, input [7:0] offset, input now);
    written = now && {word, 2'b00} == {8'h00, offset};
  endfunction

  // Word `old` with the bytes of write_strobe replaced.
  function [31:0] merged(input [31:0] old, input [31:0] data, input [3:0] strobe);
    merged = {
      strobe[3] ? data[31:24] : old[31:24],
      strobe[2] ? data[23:16] : old[23:16],
      strobe[1] ? data[15:8] : old[15:8],
      strobe[0] ? data[7:0] : old[7:0]
    };
  endfunction

  wire write_low = write & write_strobe[0];
  wire start_written = written(write_word, REG_AP_CTRL, write_low) & write_data[0];
  wire reset_written = written(write_word, REG_RESET, write_low) & write_data[0];

  // AXI4-Lite: read

  reg [31:0] read_data;
  wire read = s_axi_control_arvalid & s_axi_control_arready;
  wire [15:0] read_address = {s_axi_control_araddr[15:2], 2'b00};
  wire control_read = read & read_address == {8'h00, REG_AP_CTRL};

  assign s_axi_control_arready = ~s_axi_control_rvalid;
  assign s_axi_control_rresp = 2'b00;

  always @(posedge fixed_clk) begin
    if (read) s_axi_control_rdata <= read_data;
    if (!fixed_resetn) s_axi_control_rvalid <= 1'b0;
    else s_axi_control_rvalid <= read | (s_axi_control_rvalid & ~s_axi_control_rready);
  end

  // What comes from the engine's clock. The results need no synchroniser: they stand still when done arrives.

  reg ready_toggle = 1'b0, done_toggle = 1'b0;
  reg [31:0] status_held;
  reg [63:0] detail_held;
  wire ready_now, done_now, out_of_reset;
  reg ready_seen = 1'b0, done_seen = 1'b0;

  crossing ready_crossing (.clk(fixed_clk), .d(ready_toggle), .q(ready_now));
  crossing done_crossing (.clk(fixed_clk), .d(done_toggle), .q(done_now));
  crossing resetn_crossing (.clk(fixed_clk), .d(engine_resetn), .q(out_of_reset));

  always @(posedge fixed_clk) begin
    ready_seen <= ready_now;
    done_seen  <= done_now;
  end

  // Runs. `start` is ap_start as AP_CTRL shows it; a run goes on (`running`) from the toggle to the engine until done.
  // A crossing may take a cycle more, so ready may arrive a cycle after the done that belongs to it: done then stands
  // for both, and a ready that comes while nothing runs is none. So is what was under way when RESET was written.

  reg start, running, taken, done, ready;
  reg start_toggle = 1'b0;
  reg reset_pending;
  wire clock_runs;
  wire run_done = running & (done_now ^ done_seen);
  wire run_ready = running & (run_done ? ~taken : ready_now ^ ready_seen);
  wire dispatch = start & ~running & clock_runs & ~reset_pending;
  wire idle = ~start & ~running;

  always @(posedge fixed_clk)
    if (!fixed_resetn || reset_written) begin
      start <= 1'b0;
      running <= 1'b0;
      done <= 1'b0;
      ready <= 1'b0;
    end else begin
      start <= start_written | (start & ~run_ready);
      running <= dispatch | (running & ~run_done);
      done <= run_done | (done & ~control_read);
      ready <= run_ready | (ready & ~control_read);
    end

  always @(posedge fixed_clk) begin
    taken <= ~dispatch & (taken | run_ready);
    if (dispatch) start_toggle <= ~start_toggle;
  end

  // Interrupt

  reg interrupt_on;
  reg [1:0] interrupt_enable, interrupt_status;
  wire [1:0] interrupt_event = {run_ready, run_done} & interrupt_enable;
  wire [1:0] interrupt_toggle = {2{written(write_word, REG_ISR, write_low)}} & write_data[1:0];

  assign interrupt = interrupt_on & |interrupt_status;

  always @(posedge fixed_clk) begin
    if (!fixed_resetn) begin
      interrupt_on <= 1'b0;
      interrupt_enable <= 2'b00;
    end else begin
      if (written(write_word, REG_GIE, write_low)) interrupt_on <= write_data[0];
      if (written(write_word, REG_IER, write_low)) interrupt_enable <= write_data[1:0];
    end
    if (!fixed_resetn || reset_written) interrupt_status <= 2'b00;
    else interrupt_status <= interrupt_event | (interrupt_status ^ interrupt_toggle);
  end

  // Arguments and results

  wire argument = write & idle;

  always @(posedge fixed_clk)
    if (!fixed_resetn) begin
      program_address <= 64'd0;
      image_address <= 64'd0;
      io_address <= 64'd0;
      instructions <= 32'd0;
      row_blocks <= 32'd0;
    end else begin
      if (written(write_word, REG_PROGRAM, argument))
        program_address[31:0] <= merged(program_address[31:0], write_data, write_strobe);
      if (written(write_word, REG_PROGRAM + 8'd4, argument))
        program_address[63:32] <= merged(program_address[63:32], write_data, write_strobe);
      if (written(write_word, REG_IMAGE, argument))
        image_address[31:0] <= merged(image_address[31:0], write_data, write_strobe);
      if (written(write_word, REG_IMAGE + 8'd4, argument))
        image_address[63:32] <= merged(image_address[63:32], write_data, write_strobe);
      if (written(write_word, REG_IO, argument))
        io_address[31:0] <= merged(io_address[31:0], write_data, write_strobe);
      if (written(write_word, REG_IO + 8'd4, argument))
        io_address[63:32] <= merged(io_address[63:32], write_data, write_strobe);
      if (written(write_word, REG_INSTRUCTIONS, argument))
        instructions <= merged(instructions, write_data, write_strobe);
      if (written(write_word, REG_ROW_BLOCKS, argument))
        row_blocks <= merged(row_blocks, write_data, write_strobe);
    end

  reg [31:0] last_status;
  reg [63:0] last_detail;

  always @(posedge fixed_clk)
    if (!fixed_resetn) begin
      last_status <= 32'd0;
      last_detail <= 64'd0;
    end else if (run_done) begin
      last_status <= status_held;
      last_detail <= detail_held;
    end

  // Reset. The request stays until the engine's side is seen in reset, so that it works at any ratio of the clocks and
  // holds a start back until the engine is out of it.

  reg reset_request = 1'b1;
  wire clock_steady;

  always @(posedge fixed_clk)
    if (!fixed_resetn || reset_written) begin
      reset_request <= 1'b1;
      reset_pending <= 1'b1;
    end else begin
      reset_request <= reset_request & out_of_reset;
      reset_pending <= reset_pending & (reset_request | ~out_of_reset | ~clock_steady);
    end

  // Change of clock. clock_wanted {stop, output} is all that it is asked. No reset: from power-up on every change goes
  // by the same steps.

  localparam [6:0] WAIT_CYCLES = SELECT_WAIT_CYCLES;

  reg clock_stop;
  reg [1:0] host_output, lowest_output;
  reg clock_changing = 1'b0, clock_settling = 1'b0;
  reg [6:0] clock_wait = 7'd0;
  initial clock_select = 2'd0;
  initial clock_enable = 1'b1;

  // A choice of the program. done and it may be seen in either order, a cycle apart, so what comes while nothing runs
  // is none; a next run begins later than that.
  reg chosen;
  reg [1:0] chosen_output;
  reg choice_seen = 1'b0;
  reg choice_toggle = 1'b0;
  reg [1:0] choice_held;
  wire choice_now;
  wire [1:0] limit = lowest_output < host_output ? lowest_output : host_output;

  crossing choice_crossing (.clk(fixed_clk), .d(choice_toggle), .q(choice_now));

  always @(posedge fixed_clk) begin
    choice_seen <= choice_now;
    if (!fixed_resetn || reset_written || !running || run_done) begin
      chosen <= 1'b0;
    end else if (choice_now ^ choice_seen) begin
      chosen <= 1'b1;
      chosen_output <= choice_held < limit ? limit : choice_held;
    end
  end

  reg last_chosen;
  reg [1:0] last_output;

  always @(posedge fixed_clk)
    if (!fixed_resetn) begin
      last_chosen <= 1'b0;
      last_output <= 2'd0;
    end else if (run_done) begin
      last_chosen <= chosen;
      last_output <= chosen ? chosen_output : clock_select;
    end

  wire [2:0] clock_asked = {clock_stop & ~(reset_request | ~out_of_reset), host_output};
  wire [2:0] clock_wanted = chosen ? {1'b0, chosen_output} : clock_asked;
  wire clock_as_wanted = clock_wanted == {~clock_enable, clock_select};
  assign clock_steady = ~clock_changing & clock_as_wanted;
  assign clock_runs = clock_steady & clock_enable;

  always @(posedge fixed_clk) begin
    if (!fixed_resetn) begin
      clock_stop <= 1'b0;
      host_output <= 2'd0;
      lowest_output <= 2'd3;
    end else begin
      if (written(write_word, REG_CLOCK, write_low)) host_output <= write_data[1:0];
      if (written(write_word, REG_CLOCK_LIMIT, write_low)) lowest_output <= write_data[1:0];
      if (written(write_word, REG_CLOCK, write & write_strobe[1])) clock_stop <= write_data[8];
    end

    if (!clock_changing) begin
      if (!clock_as_wanted && (!running || chosen)) begin
        clock_changing <= 1'b1;
        clock_settling <= 1'b0;
        clock_enable <= 1'b0;
        clock_wait <= WAIT_CYCLES - 7'd1;
      end
    end else if (clock_wait != 7'd0) begin
      clock_wait <= clock_wait - 7'd1;
    end else if (!clock_settling || clock_select != clock_wanted[1:0]) begin
      clock_settling <= 1'b1;
      clock_select <= clock_wanted[1:0];
      clock_wait <= WAIT_CYCLES - 7'd1;
    end else begin
      clock_changing <= 1'b0;
      clock_enable   <= ~clock_wanted[2];
    end
  end

  // What each register reads

  always @*
    case (read_address)
      {8'h00, REG_AP_CTRL}: read_data = {28'd0, ready, idle, done, start};
      {8'h00, REG_GIE}: read_data = {31'd0, interrupt_on};
      {8'h00, REG_IER}: read_data = {30'd0, interrupt_enable};
      {8'h00, REG_ISR}: read_data = {30'd0, interrupt_status};
      {8'h00, REG_PROGRAM}: read_data = program_address[31:0];
      {8'h00, REG_PROGRAM + 8'd4}: read_data = program_address[63:32];
      {8'h00, REG_IMAGE}: read_data = image_address[31:0];
      {8'h00, REG_IMAGE + 8'd4}: read_data = image_address[63:32];
      {8'h00, REG_IO}: read_data = io_address[31:0];
      {8'h00, REG_IO + 8'd4}: read_data = io_address[63:32];
      {8'h00, REG_INSTRUCTIONS}: read_data = instructions;
      {8'h00, REG_ROW_BLOCKS}: read_data = row_blocks;
      {8'h00, REG_STATUS}: read_data = last_status;
      {8'h00, REG_DETAIL}: read_data = last_detail[31:0];
      {8'h00, REG_DETAIL + 8'd4}: read_data = last_detail[63:32];
      {8'h00, REG_ID}: read_data = ID[31:0];
      {8'h00, REG_ID + 8'd4}: read_data = ID[63:32];
      {8'h00, REG_CLOCK}: read_data = {23'd0, clock_stop, 6'd0, host_output};
      {8'h00, REG_CLOCK_STATUS}:
      read_data = {22'd0, ~clock_steady, ~clock_enable & clock_steady, 6'd0, clock_select};
      {8'h00, REG_RESET}: read_data = {31'd0, reset_pending};
      {8'h00, REG_CLOCK_LIMIT}: read_data = {30'd0, lowest_output};
      {8'h00, REG_CLOCK_ENDED}: read_data = {23'd0, last_chosen, 6'd0, last_output};
      default: read_data = 32'd0;
    endcase

  // The engine's clock: reset

  wire reset_asked;
  reg [4:0] reset_left = RESET_CYCLES - 5'd1;
  initial engine_resetn = 1'b0;

  crossing #(.INITIAL(1'b1)) reset_crossing (.clk(engine_clk), .d(reset_request), .q(reset_asked));

  always @(posedge engine_clk) begin
    if (reset_asked) reset_left <= RESET_CYCLES - 5'd1;
    else if (reset_left != 5'd0) reset_left <= reset_left - 5'd1;
    engine_resetn <= ~reset_asked & reset_left == 5'd0;
  end

  // The engine's clock: a run ends when the engine, done, is idle again.

  wire start_now;
  reg start_seen = 1'b0;
  reg ended;

  crossing start_crossing (.clk(engine_clk), .d(start_toggle), .q(start_now));

  always @(posedge engine_clk) begin
    start_seen <= start_now;
    if (status_ap_vld) status_held <= status;
    if (detail_ap_vld) detail_held <= detail;
    if (!engine_resetn) begin
      ap_start <= 1'b0;
      ended <= 1'b0;
    end else begin
      ap_start <= (start_now ^ start_seen) | (ap_start & ~ap_ready);
      ended <= ap_done | (ended & ~ap_idle);
      if (ap_start & ap_ready) ready_toggle <= ~ready_toggle;
      if (ended & ap_idle) done_toggle <= ~done_toggle;
    end
  end

  // The engine's clock: a choice is handed on once the one before was seen, and not beyond the run's end.

  wire choice_answered;
  reg choice_waits;
  reg [1:0] choice_next;
  wire choice_free = choice_answered == choice_toggle;

  crossing choice_answer (.clk(engine_clk), .d(choice_seen), .q(choice_answered));

  always @(posedge engine_clk) begin
    if (clock_output_ap_vld) choice_next <= clock_output[1:0];
    if (!engine_resetn || ended & ap_idle) begin
      choice_waits <= 1'b0;
    end else begin
      choice_waits <= clock_output_ap_vld | (choice_waits & ~choice_free);
      if (choice_waits & choice_free) begin
        choice_held   <= choice_next;
        choice_toggle <= ~choice_toggle;
      end
    end
  end

endmodule
