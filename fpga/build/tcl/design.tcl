# SPDX-License-Identifier: Apache-2.0
# The project and its block design (docs/block-design.md), made anew. No number stands here but those of pins.

source [file join [file dirname [info script]] common.tcl]
source [lindex $argv 0]

# Clocks and resets are gathered as cells are made, and joined at the end: $taken(fixed_clock) and so on.
array set taken {fixed_clock {} fixed_reset {} engine_clock {} engine_reset {}}

# --- objects by name -------------------------------------------------------------------------------------------------

# The pin cell/name, in an interface or not.
proc pin {name} {
  set found [get_bd_pins -quiet $name]
  if {[llength $found] == 1} {return $found}
  set cell [get_bd_cells -quiet [file dirname $name]]
  if {[llength $cell] == 0} {fail "there is no cell [file dirname $name] for the pin $name"}
  fail "there is no pin $name; the pins of [file dirname $name] are: [names_of [get_bd_pins -quiet -of_objects $cell]]"
}

# The interface cell/name.
proc interface {name} {
  set found [get_bd_intf_pins -quiet $name]
  if {[llength $found] == 1} {return $found}
  set cell [get_bd_cells -quiet [file dirname $name]]
  if {[llength $cell] == 0} {fail "there is no cell [file dirname $name] for the interface $name"}
  fail "there is no interface $name; those of [file dirname $name] are:\
    [names_of [get_bd_intf_pins -quiet -of_objects $cell]]"
}

proc names_of {objects} {
  set names {}
  foreach object $objects {lappend names [file tail $object]}
  return [join [lsort -dictionary $names] {, }]
}

# Bits of a pin; one that is no vector has neither LEFT nor RIGHT.
proc width {name} {
  set left [get_property LEFT [pin $name]]
  set right [get_property RIGHT [pin $name]]
  if {$left eq ""} {return 1}
  return [expr {abs($left - $right) + 1}]
}

proc expect {what found wanted} {
  if {$found ne $wanted} {fail "$what is $found, must be $wanted"}
}

proc join_pins {driver args} {
  set pins [list [pin $driver]]
  foreach name $args {lappend pins [pin $name]}
  connect_bd_net {*}$pins
}

proc join_interfaces {from to} {
  connect_bd_intf_net [interface $from] [interface $to]
}

# Cell/pin names that a clock or reset goes to.
proc give {what args} {
  global taken
  foreach name $args {lappend taken($what) $name}
}

proc add_ip {name vlnv {settings {}}} {
  set cell [create_bd_cell -type ip -vlnv $vlnv $name]
  if {[llength $settings]} {set_property -dict $settings $cell}
  return $cell
}

# --- project ---------------------------------------------------------------------------------------------------------

proc make_project {} {
  global design
  if {[llength [get_parts -quiet $design(part)]] == 0} {
    fail "this Vivado ([version -short]) has no part $design(part); remedy: in Vivado, Help > Add Design Tools or Devices,\
      add the Zynq UltraScale+ MPSoC and RFSoC devices (they need the Enterprise edition)"
  }
  set boards [lsort -dictionary [get_board_parts -quiet "$design(board_part):*"]]
  if {[llength $boards] == 0} {
    fail "this Vivado ([version -short]) has no board files $design(board_part), which set up the PS; remedy: in Vivado,\
      Tools > Vivado Store > Boards, install [string toupper $design(board)]"
  }
  set board [lindex $boards end]
  puts "zynqbert uses part $design(part), board files $board"
  create_project -force -part $design(part) $design(name) $design(project)
  set_property board_part $board [current_project]
  set_property target_language Verilog [current_project]
  set_property ip_repo_paths $design(ip_folders) [current_project]
  update_ip_catalog -rebuild
  add_files -norecurse $design(rtl)
  update_compile_order -fileset sources_1
  set_property strategy $design(synthesis_strategy) [get_runs synth_1]
  set_property strategy $design(implementation_strategy) [get_runs impl_1]
}

# --- cells -----------------------------------------------------------------------------------------------------------

# The PS with the board's preset (DDR, MIO, clocks) and on top of it what this design needs.
proc add_ps {} {
  global design
  add_ip ps [newest_ip xilinx.com:ip:zynq_ultra_ps_e]
  apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset "1"} [get_bd_cells ps]
  set_property -dict $design(ps_settings) [get_bd_cells ps]
  give fixed_clock ps/maxihpm0_fpd_aclk
  add_ip fixed_reset [newest_ip xilinx.com:ip:proc_sys_reset]
  join_pins ps/pl_resetn0 fixed_reset/ext_reset_in
  give fixed_clock fixed_reset/slowest_sync_clk
}

# Registers: engine, wizard and interrupt controller behind one SmartConnect, all on the fixed clock.
proc add_registers {} {
  global design
  foreach row $design(blocks) {lassign $row cell vlnv; set vlnv_of($cell) $vlnv}
  set engine [create_bd_cell -type module -reference engine_control engine]
  expect "the type of cell engine" [get_property VLNV $engine] $vlnv_of(engine)
  set_property CONFIG.ID $design(engine_id) $engine
  give fixed_clock engine/fixed_clk
  give fixed_reset engine/fixed_resetn
  give engine_clock engine/engine_clk

  # The wizard takes factors as they are only after it was told so.
  set wizard [add_ip clock_wizard $vlnv_of(clock_wizard)]
  foreach settings $design(wizard_settings) {set_property -dict $settings $wizard}
  give fixed_clock clock_wizard/clk_in1 clock_wizard/s_axi_aclk
  give fixed_reset clock_wizard/s_axi_aresetn

  # One interrupt, a level; a single wire to the PS and no concatenation, which not every pynq can trace.
  add_ip interrupts $vlnv_of(interrupts) {CONFIG.C_IRQ_CONNECTION 1}
  join_pins engine/interrupt interrupts/intr
  join_pins interrupts/irq ps/pl_ps_irq0
  give fixed_clock interrupts/s_axi_aclk
  give fixed_reset interrupts/s_axi_aresetn

  add_ip registers [newest_ip xilinx.com:ip:smartconnect] {CONFIG.NUM_SI 1 CONFIG.NUM_MI 3}
  give fixed_clock registers/aclk
  give fixed_reset registers/aresetn
  join_interfaces ps/M_AXI_HPM0_FPD registers/S00_AXI
  join_interfaces registers/M00_AXI engine/s_axi_control
  join_interfaces registers/M01_AXI clock_wizard/s_axi_lite
  join_interfaces registers/M02_AXI interrupts/s_axi
}

# The wizard's outputs, multiplexed and gated, are the engine's clock. `locked` goes nowhere: it resets nothing.
proc add_engine_clock {} {
  global design
  create_bd_cell -type module -reference clock_select clock_select
  for {set n 0} {$n < 4} {incr n} {
    join_pins clock_wizard/clk_out[expr {$n + 1}] clock_select/clk$n
  }
  join_pins engine/clock_select clock_select/select
  join_pins engine/clock_enable clock_select/enable
  set_property CONFIG.FREQ_HZ $design(engine_hz) [pin clock_select/engine_clk]
}

proc add_units {} {
  global design
  foreach {cell top} $design(units) {
    add_ip $cell [newest_ip $design(ip_library):$top]
    give engine_clock $cell/ap_clk
    give engine_reset $cell/ap_rst_n
  }
  foreach row $design(modules) {
    lassign $row cell module
    set_property -dict [lrange $row 2 end] [create_bd_cell -type module -reference $module $cell]
    give engine_clock $cell/ap_clk
    give engine_reset $cell/ap_rst_n
  }
  foreach name {ap_start program_address image_address io_address instructions row_blocks} {
    expect "the width of fetch/$name" [width fetch/$name] [width engine/$name]
    join_pins engine/$name fetch/$name
  }
  foreach name {ap_done ap_ready ap_idle status status_ap_vld detail detail_ap_vld clock_output clock_output_ap_vld} {
    expect "the width of fetch/$name" [width fetch/$name] [width engine/$name]
    join_pins fetch/$name engine/$name
  }
}

# A FIFO for each stream, as wide as the IPs at its ends: both must agree, and their common width hold the payload. None
# where the table has no depth: the ends are joined.
proc add_streams {} {
  global design
  foreach row $design(streams) {
    lassign $row name producer consumer bits depth memory
    set bytes [get_property CONFIG.TDATA_NUM_BYTES [interface $producer]]
    expect "TDATA of $consumer, in bytes," [get_property CONFIG.TDATA_NUM_BYTES [interface $consumer]] $bytes
    if {8 * $bytes < $bits} {fail "TDATA of $producer has $bytes bytes, too few for $bits bits"}
    if {$depth == 0} {
      join_interfaces $producer $consumer
      continue
    }
    set fifo stream_$name
    add_ip $fifo [newest_ip xilinx.com:ip:axis_data_fifo] [list \
      CONFIG.TDATA_NUM_BYTES $bytes CONFIG.FIFO_DEPTH $depth CONFIG.FIFO_MEMORY_TYPE $memory CONFIG.IS_ACLK_ASYNC 0 \
      CONFIG.HAS_TLAST 0 CONFIG.HAS_TKEEP 0 CONFIG.HAS_TSTRB 0]
    join_interfaces $producer $fifo/S_AXIS
    join_interfaces $fifo/M_AXIS $consumer
    give engine_clock $fifo/s_axis_aclk
    give engine_reset $fifo/s_axis_aresetn
  }
}

# A memory for each bank: one port writes, one reads. An address may be narrower than the memory's (a last bank of fewer
# words), but the same on both sides.
proc add_memories {} {
  global design
  foreach row $design(memories) {
    lassign $row name writer reader words bits address_bits style stalls
    set cell memory_$name
    set_property -dict [list CONFIG.WIDTH $bits CONFIG.DEPTH $words CONFIG.ADDRESS_WIDTH $address_bits \
      CONFIG.STYLE $style CONFIG.STALLS $stalls] [create_bd_cell -type module -reference memory $cell]
    foreach port [list $writer $reader] {
      if {[llength [get_bd_pins -quiet ${port}_address1]]} {
        fail "$port has a second port (${port}_address1), the memory none to join it to"
      }
    }
    expect "the width of ${writer}_we0" [width ${writer}_we0] 1
    expect "the width of ${writer}_d0" [width ${writer}_d0] $bits
    expect "the width of ${reader}_q0" [width ${reader}_q0] $bits
    expect "the width of ${reader}_address0" [width ${reader}_address0] [width ${writer}_address0]
    if {[width ${writer}_address0] > $address_bits} {
      fail "${writer}_address0 has [width ${writer}_address0] bits, $words words need $address_bits"
    }
    join_pins ${writer}_address0 $cell/write_address
    join_pins ${writer}_ce0 $cell/write_ce
    join_pins ${writer}_we0 $cell/write_we
    join_pins ${writer}_d0 $cell/write_d
    join_pins ${reader}_address0 $cell/read_address
    join_pins ${reader}_ce0 $cell/read_ce
    join_pins $cell/read_q ${reader}_q0
    give engine_clock $cell/clk
  }
}

# Each memory port of the PS has a SmartConnect: it adapts addresses (64 bits to 49), identifiers and QoS.
proc add_memory_ports {} {
  global design
  foreach row $design(ports) {
    lassign $row name slave clock
    set masters [lrange $row 4 end]
    set cell memory_port_[string tolower $name]
    add_ip $cell [newest_ip xilinx.com:ip:smartconnect] [list CONFIG.NUM_SI [llength $masters] CONFIG.NUM_MI 1]
    set n 0
    foreach master $masters {
      expect "the data width of $master" [get_property CONFIG.DATA_WIDTH [interface $master]] $design(port_bits)
      join_interfaces $master $cell/[format S%02d_AXI $n]
      incr n
    }
    join_interfaces $cell/M00_AXI ps/$slave
    give engine_clock $cell/aclk ps/$clock
    give engine_reset $cell/aresetn
  }
}

proc join_clocks_and_resets {} {
  global taken
  join_pins ps/pl_clk0 {*}$taken(fixed_clock)
  join_pins fixed_reset/peripheral_aresetn {*}$taken(fixed_reset)
  join_pins clock_select/engine_clk {*}$taken(engine_clock)
  join_pins engine/engine_resetn {*}$taken(engine_reset)
}

# --- addresses -------------------------------------------------------------------------------------------------------

proc assign_addresses {} {
  global design
  foreach row $design(blocks) {
    lassign $row cell vlnv base size
    set segment [get_bd_addr_segs -quiet $cell/*/*]
    if {[llength $segment] != 1} {fail "cell $cell has [llength $segment] address segments, must have one"}
    assign_bd_address -offset $base -range $size -target_address_space [get_bd_addr_spaces ps/Data] $segment -force
  }
  # Of what the PS's ports reach the units get DDR alone.
  foreach row $design(ports) {
    lassign $row name slave clock prefix
    foreach master [lrange $row 4 end] {
      set space [address_space $master]
      set mapped {}
      foreach window $design(ddr_windows) {
        lassign $window segment base size
        set found [get_bd_addr_segs -quiet ps/${prefix}_$segment]
        if {[llength $found] != 1} {
          fail "the PS has no address segment ps/${prefix}_$segment; it has:\
            [names_of [get_bd_addr_segs -quiet ps/[file dirname $prefix]/*]]"
        }
        assign_bd_address -offset $base -range $size -target_address_space $space $found -force
        lappend mapped $found
      }
      foreach segment [get_bd_addr_segs -quiet ps/[file dirname $prefix]/*] {
        if {$segment ni $mapped} {exclude_bd_addr_seg -target_address_space $space $segment}
      }
    }
  }
}

# What an HLS unit calls the address space of its AXI master cell/m_axi_x.
proc address_space {master} {
  set name [file dirname $master]/Data_[file tail $master]
  set found [get_bd_addr_spaces -quiet $name]
  if {[llength $found] != 1} {
    fail "there is no address space $name; those of [file dirname $master] are:\
      [names_of [get_bd_addr_spaces -quiet [file dirname $master]/*]]"
  }
  return $found
}

# --- checks ----------------------------------------------------------------------------------------------------------

# An input left open reads 0 without a word: a unit that never starts, a memory of zeros. So nothing may be open but what
# the table names.
proc check_connected {} {
  global design
  set open {}
  foreach cell [get_bd_cells] {
    foreach clock [get_bd_pins -quiet -of_objects $cell -filter {TYPE == clk && DIR == I}] {
      if {[llength [get_bd_nets -quiet -of_objects $clock]] == 0} {lappend open $clock}
    }
  }
  set units {engine}
  foreach {cell top} $design(units) {lappend units $cell}
  foreach row $design(modules) {lappend units [lindex $row 0]}
  foreach cell $units {
    foreach input [get_bd_pins -quiet -of_objects [get_bd_cells $cell] -filter {DIR == I && INTF == FALSE}] {
      if {[string trimleft $input /] in $design(unconnected)} continue
      if {[llength [get_bd_nets -quiet -of_objects $input]] == 0} {lappend open $input}
    }
    foreach bus [get_bd_intf_pins -quiet -of_objects [get_bd_cells $cell]] {
      if {[string trimleft $bus /] in $design(unconnected)} continue
      if {[llength [get_bd_intf_nets -quiet -of_objects $bus]] == 0} {lappend open $bus}
    }
  }
  if {[llength $open]} {fail "not connected: [join [lsort -unique $open] {, }]"}
}

# --- all of it -------------------------------------------------------------------------------------------------------

run_script {
  make_project
  create_bd_design $design(name)
  add_ps
  add_registers
  add_engine_clock
  add_units
  add_streams
  add_memories
  add_memory_ports
  join_clocks_and_resets
  assign_addresses
  check_connected
  validate_bd_design
  save_bd_design
  set sources [get_files $design(name).bd]
  generate_target all $sources
  add_files -norecurse [make_wrapper -files $sources -top]
  set_property top $design(name)_wrapper [current_fileset]
  update_compile_order -fileset sources_1
  # The clocks come from IPs, which synthesis of the top does not look into: these are constraints of implementation.
  add_files -fileset constrs_1 -norecurse $design(constraints)
  set_property used_in_synthesis false [get_files $design(constraints)]
  set_property processing_order LATE [get_files $design(constraints)]
  close_project
}
