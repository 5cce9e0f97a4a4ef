// SPDX-License-Identifier: Apache-2.0
// What starts tiles, addresses the memories and times the drain (docs/mac-array.md).
//
// A tile starts when its command is here, its tokens have come, its words fit the accumulator stream beside all that
// were promised before, and its last step is not before the drain of the tile before lets go of row 0: K steps from
// here there must be no word left of it. Each of these is looked at a cycle early and kept in a register, so that the
// next tile starts in the cycle after the last step of this one; two starts are two cycles apart at least. Once started
// nothing stops a tile. 1 <= k <= 4608, 1 <= words <= PAIRS (w8) or 2 * PAIRS (w4).
//
// Activations lie in four banks, word i in bank i % 4. A tile with bound = 0 reads a word a step, of one bank; with
// bound > 0 each `bound` steps are of one block of four words, which is read in the first of them from all banks and
// stays at their ports. Such a tile begins at a block.
//
// Cycle 0 being the one of the first address: `take` and the fields with it belong to the word at the memories' ports in
// cycle 2; `add` is 0 in cycle 4, a cycle after the first operand has entered the array. With e the cycle after the
// last address, row 0's column j of group g has its sum in cycle e + 5 + j - g: `select` is then its place in the group.
module array_control #(
    parameter int PAIRS = 64,
    parameter int GROUP = 3,
    parameter int ADDRESS = 6,      // of the rows' memories of waiting sums
    parameter int WORDS = 512,      // of the accumulator stream
    localparam int GROUPS = (PAIRS + GROUP - 1) / GROUP
) (
    input  logic clk,
    input  logic resetn,

    input  logic        command_valid,
    output logic        command_ready,
    input  logic        command_w8,
    input  logic        command_unsigned,
    input  logic        command_keys_values,
    input  logic [13:0] command_weights,
    input  logic [14:0] command_operand,
    input  logic [12:0] command_key_value,
    input  logic [12:0] command_k,
    input  logic [ 7:0] command_words,
    input  logic        command_pop_weights,
    input  logic        command_push_weights,
    input  logic [ 7:0] command_pop_data,
    input  logic        command_zero,
    input  logic [ 1:0] command_bound,

    input  logic weights_ready,       // a token is there
    output logic weights_ready_taken,
    input  logic data_ready,
    output logic data_ready_taken,
    output logic weights_free,
    input  logic weights_free_taken,
    input  logic word_left,           // one of the accumulator stream

    output logic [12:0] activations_address,  // the same for all banks
    output logic [13:0] weights_address,
    output logic [12:0] key_values_address,
    output logic [ 3:0] activations_ce,       // of each bank
    output logic        weights_ce,
    output logic        key_values_ce,

    output logic take,
    output logic zero,
    output logic unsigned_operand,
    output logic w8,
    output logic keys_values,
    output logic chosen,
    output logic [1:0] bank,
    output logic add,

    output logic [2*GROUPS-1:0] select,
    output logic                write,
    output logic [ ADDRESS-1:0] write_address,
    output logic                read,
    output logic [ ADDRESS-1:0] read_address,
    output logic                read_high,
    output logic                read_w8
);

  // The next command, and whether it may start.

  logic held, settled, start, last;
  logic next_w8, next_unsigned, next_keys_values, next_pop_weights, next_push_weights, next_zero;
  logic [14:0] next_operand;
  logic [13:0] next_weights;
  logic [12:0] next_key_value, next_k;
  logic [7:0] next_words, next_pop_data;
  logic [1:0] next_bound;

  assign command_ready = !held || start;

  always_ff @(posedge clk) begin
    if (command_ready) begin
      next_w8 <= command_w8;
      next_unsigned <= command_unsigned;
      next_keys_values <= command_keys_values;
      next_weights <= command_weights;
      next_operand <= command_operand;
      next_key_value <= command_key_value;
      next_k <= command_k;
      next_words <= command_words;
      next_pop_weights <= command_pop_weights;
      next_push_weights <= command_push_weights;
      next_pop_data <= command_pop_data;
      next_zero <= command_zero;
      next_bound <= command_bound;
    end
    if (!resetn) begin
      held <= 1'b0;
      settled <= 1'b0;
    end else begin
      held <= command_valid || (held && !start);
      settled <= held && !start;
    end
  end

  // Tokens are taken as they come and counted here.

  logic [2:0] weights, freed;
  logic [9:0] data;
  logic weights_came, data_came, free_left;

  assign weights_ready_taken = weights != 3'd7;
  assign data_ready_taken = !data[9];
  assign weights_came = weights_ready && weights_ready_taken;
  assign data_came = data_ready && data_ready_taken;
  assign weights_free = freed != 3'd0;
  assign free_left = weights_free && weights_free_taken;

  // Room in the accumulator stream: what is not taken or promised.

  logic [9:0] room;
  logic word_left_1;

  // Words of the tile that drains last, counted from where its first one leaves row 0, down from its own steps on.

  logic [13:0] drain_left;

  logic run, push_weights;
  logic [12:0] steps_left;
  logic weights_ok, data_ok, room_ok, drain_ok, free_ok;

  assign last = run && steps_left == 13'd1;
  assign start = settled && weights_ok && data_ok && room_ok && drain_ok && free_ok && (last || !run);

  always_ff @(posedge clk) begin
    weights_ok <= !next_pop_weights || weights != 3'd0;
    data_ok <= data >= {2'b00, next_pop_data};
    room_ok <= room >= {2'b00, next_words};
    drain_ok <= drain_left <= {1'b0, next_k} + 14'd2;
    free_ok <= !next_push_weights || freed < 3'd4;
  end

  always_ff @(posedge clk)
    if (!resetn) begin
      weights <= 3'd0;
      data <= 10'd0;
      freed <= 3'd0;
      room <= 10'(WORDS);
      word_left_1 <= 1'b0;
      drain_left <= 14'd0;
    end else begin
      weights <= weights + {2'b00, weights_came} - {2'b00, start && next_pop_weights};
      data <= data + {9'd0, data_came} - (start ? {2'b00, next_pop_data} : 10'd0);
      freed <= freed + {2'b00, last && push_weights} - {2'b00, free_left};
      room <= room + {9'd0, word_left_1} - (start ? {2'b00, next_words} : 10'd0);
      word_left_1 <= word_left;
      if (start) drain_left <= {1'b0, next_k} + {6'd0, next_words};
      else if (drain_left != 14'd0) drain_left <= drain_left - 14'd1;
    end

  // The tile that runs: an address a cycle, of activations one for each block where they are chosen.

  logic run_w8, run_unsigned, run_keys_values, run_zero, run_first, run_chosen, block_last;
  logic [7:0] run_words;
  logic [1:0] run_bound, of_block;
  logic [14:0] activations_word;

  assign run_chosen = run_bound != 2'd0;
  assign block_last = of_block == run_bound;
  assign activations_address = activations_word[14:2];

  always_ff @(posedge clk) begin
    if (start) begin
      activations_word <= next_operand;
      run_bound <= next_bound;
      of_block <= 2'd1;
      weights_address <= next_weights;
      key_values_address <= next_key_value;
      steps_left <= next_k;
      {run_w8, run_unsigned, run_keys_values, run_zero} <= {next_w8, next_unsigned, next_keys_values, next_zero};
      run_words <= next_words;
      push_weights <= next_push_weights;
    end else begin
      if (!run_chosen) activations_word <= activations_word + 15'd1;
      else if (block_last) activations_word <= activations_word + 15'd4;
      of_block <= block_last ? 2'd1 : of_block + 2'd1;
      weights_address <= weights_address + 14'd1;
      key_values_address <= key_values_address + 13'd1;
      steps_left <= steps_left - 13'd1;
    end
    run_first <= start;
    run <= resetn && (start || (run && !last));
  end

  // A word is at the ports two cycles later, whether the enable stays or not (memory.v, STALLS = 0).
  logic reads;
  assign reads = run && !run_zero;
  assign activations_ce = !reads ? 4'd0 : run_chosen ? {4{of_block == 2'd1}} : 4'd1 << activations_word[1:0];
  assign weights_ce = reads && !run_keys_values;
  assign key_values_ce = reads && run_keys_values;

  delay #(.WIDTH(8), .DEPTH(2)) fields (
      .clk(clk),
      .d({run, run_zero, run_unsigned, run_w8, run_keys_values, run_chosen, run_chosen ? 2'd0 : activations_word[1:0]}),
      .q({take, zero, unsigned_operand, w8, keys_values, chosen, bank})
  );
  delay #(.WIDTH(1), .DEPTH(4)) first_step (.clk(clk), .d(!run_first), .q(add));

  // The drain learns of a tile's end some cycles later: ended[n] is 1 in cycle e - 1 + n, with that tile's words.
  // Two tiles are never at one place of it, since each ends at least as many cycles after the one before as that one
  // has words.

  logic [7:0] ended;
  logic [8:0] tile[8];   // {w8, words}
  logic [6:0] columns;   // of the tile whose sums leave row 0

  assign ended[0] = last;
  delay #(.WIDTH(9), .DEPTH(4)) ended_tile (.clk(clk), .d({run_w8, run_words}), .q(tile[4]));

  always_ff @(posedge clk) begin
    for (int n = 5; n < 8; n++) tile[n] <= tile[n-1];
    if (ended[4]) columns <= columns_of(tile[4]);
    if (!resetn) ended[7:1] <= 7'd0;
    else ended[7:1] <= ended[6:0];
  end

  function automatic logic [6:0] columns_of(input logic [8:0] of_tile);
    columns_of = of_tile[8] ? of_tile[6:0] : of_tile[7:1] + {6'd0, of_tile[0]};
  endfunction

  // A pulse walks along row 0, a column a cycle but two at once where a group begins, as far as the tile has columns.

  logic [PAIRS-1:0] at;

  generate
    for (genvar j = 0; j < PAIRS; j++) begin : g_at
      logic here;
      if (j == 0) begin : g_begin
        assign here = ended[4];
      end else begin : g_walk
        assign here = at[j-(j%GROUP==0?2 : 1)] && columns > 7'(j);
      end
      always_ff @(posedge clk) at[j] <= resetn && here;
    end
    for (genvar g = 0; g < GROUPS; g++) begin : g_select
      localparam int COLUMNS = g == GROUPS - 1 ? PAIRS - GROUP * g : GROUP;
      always_ff @(posedge clk) begin
        select[2*g+:2] <= 2'd3;
        for (int i = 0; i < COLUMNS; i++) if (at[GROUP*g+i]) select[2*g+:2] <= 2'(i);
      end
    end
  endgenerate

  // Sums come to the memory of row 0 one a cycle, from the cycle after `select`; words leave it one a cycle, from the
  // cycle after the first came.

  logic [6:0] writes_left;
  logic [7:0] reads_left;
  logic read_last;

  assign write = writes_left != 7'd0;
  assign read = reads_left != 8'd0;
  assign read_last = reads_left == 8'd1;

  always_ff @(posedge clk) begin
    if (ended[7]) read_w8 <= tile[7][8];
    if (!resetn) begin
      writes_left <= 7'd0;
      reads_left <= 8'd0;
      write_address <= '0;
      read_address <= '0;
      read_high <= 1'b0;
    end else begin
      if (ended[6]) writes_left <= columns_of(tile[6]);
      else if (write) writes_left <= writes_left - 7'd1;
      if (write) write_address <= write_address + 1'b1;
      if (ended[7]) reads_left <= tile[7][7:0];
      else if (read) reads_left <= reads_left - 8'd1;
      if (read) read_high <= !read_high && !read_last && !read_w8;
      if (read && (read_w8 || read_high || read_last)) read_address <= read_address + 1'b1;
    end
  end

endmodule
