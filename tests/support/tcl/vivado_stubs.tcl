# SPDX-License-Identifier: Apache-2.0
# Vivado's commands as far as the build's scripts use them, over a model of project and block design: what is not there
# cannot be found, what is joined once cannot be joined again, and an unknown command, option or parameter is an error.
#
#   tclsh vivado_stubs.tcl CATALOGUE RECORD SCRIPT SETTINGS
#
# CATALOGUE (tests/support/vivado_catalogue.py) tells our own IPs and modules; the vendor's are in the table below, with
# the parameters of their documentation. RECORD takes a line for everything that was made, words parted by tabs.
# FAKE_VIVADO in the environment names a way to fail; FAKE_REPORTS a folder of reports to hand out.

set catalogue [dict create]
lassign $argv catalogue_file record_file script settings
source $catalogue_file
set argv [list $settings]
set argc 1
set trouble [expr {[info exists env(FAKE_VIVADO)] ? $env(FAKE_VIVADO) : ""}]

# cell: vlnv, configuration; pin: cell, dir, type, left, intf; bus: cell, mode, kind, properties
foreach table {cell pin bus net bus_net segment space project file_property run} {array set $table {}}
array set project {open 0}

proc record {args} {
  set out [open $::record_file a]
  puts $out [join $args \t]
  close $out
}

proc refuse {message} {
  return -code error "ERROR: \[Stub 1-1\] $message"
}

# Options of a command as a dict; `flags` take no value, `values` one. What is left is under the key "".
proc options {arguments flags {values {}}} {
  set found [dict create "" {}]
  for {set n 0} {$n < [llength $arguments]} {incr n} {
    set word [lindex $arguments $n]
    if {$word in $flags} {
      dict set found $word 1
    } elseif {$word in $values} {
      dict set found $word [lindex $arguments [incr n]]
    } elseif {[string match {-[a-z]*} $word]} {
      refuse "unknown option $word"
    } else {
      dict lappend found "" $word
    }
  }
  return $found
}

proc absolute {name} {return /[string trimleft $name /]}

# --- the vendor's IPs ------------------------------------------------------------------------------------------------

set vendor {
  xilinx.com:ip:zynq_ultra_ps_e:3.4 xilinx.com:ip:zynq_ultra_ps_e:3.5 xilinx.com:ip:clk_wiz:6.0
  xilinx.com:ip:axi_intc:4.1 xilinx.com:ip:smartconnect:1.0 xilinx.com:ip:proc_sys_reset:5.0
  xilinx.com:ip:axis_data_fifo:1.1 xilinx.com:ip:axis_data_fifo:2.0
}

# parameters::IP: names and defaults; shape::IP: {pins, pins within interfaces, interfaces, address spaces} for them.
namespace eval parameters {}
namespace eval shape {}
namespace eval guard {}

proc parameters::smartconnect {} {return {NUM_SI 1 NUM_MI 1 NUM_CLKS 1}}
proc shape::smartconnect {c} {
  set buses {}
  for {set n 0} {$n < [dict get $c NUM_SI]} {incr n} {lappend buses [list [format S%02d_AXI $n] Slave aximm {}]}
  for {set n 0} {$n < [dict get $c NUM_MI]} {incr n} {lappend buses [list [format M%02d_AXI $n] Master aximm {}]}
  return [list {{aclk I clk {}} {aresetn I rst {}}} {} $buses {}]
}

proc parameters::proc_sys_reset {} {return {C_EXT_RST_WIDTH 4}}
proc shape::proc_sys_reset {c} {
  return [list {
    {slowest_sync_clk I clk {}} {ext_reset_in I rst {}} {aux_reset_in I rst {}} {mb_debug_sys_rst I rst {}}
    {dcm_locked I data {}} {mb_reset O rst {}} {bus_struct_reset O rst 0} {peripheral_reset O rst 0}
    {interconnect_aresetn O rst 0} {peripheral_aresetn O rst 0}
  } {} {} {}]
}

proc parameters::axi_intc {} {return {C_IRQ_CONNECTION 0 C_HAS_FAST 0}}
proc shape::axi_intc {c} {
  set pins {{s_axi_aclk I clk {}} {s_axi_aresetn I rst {}} {intr I intr 0}}
  set buses {{s_axi Slave aximm {}}}
  if {[dict get $c C_IRQ_CONNECTION]} {lappend pins {irq O intr {}}} else {lappend buses {interrupt Master irq {}}}
  return [list $pins {} $buses {}]
}

proc parameters::axis_data_fifo {} {
  return {TDATA_NUM_BYTES 1 FIFO_DEPTH 512 FIFO_MEMORY_TYPE auto IS_ACLK_ASYNC 0 HAS_TLAST 0 HAS_TKEEP 0 HAS_TSTRB 0}
}
proc shape::axis_data_fifo {c} {
  if {[dict get $c FIFO_DEPTH] ni {16 32 64 128 256 512 1024 2048 4096 8192 16384 32768}} {refuse "FIFO_DEPTH"}
  if {[dict get $c FIFO_MEMORY_TYPE] ni {auto block distributed ultra}} {refuse "FIFO_MEMORY_TYPE"}
  if {[dict get $c TDATA_NUM_BYTES] ni [range 1 512]} {refuse "TDATA_NUM_BYTES"}
  set width [list TDATA_NUM_BYTES [dict get $c TDATA_NUM_BYTES]]
  return [list {{s_axis_aclk I clk {}} {s_axis_aresetn I rst {}}} {} \
    [list [list S_AXIS Slave axis $width] [list M_AXIS Master axis $width]] {}]
}

proc parameters::clk_wiz {} {
  set p {
    PRIMITIVE MMCM PRIM_SOURCE Single_ended_clock_capable_pin USE_DYN_RECONFIG false USE_PHASE_ALIGNMENT true
    OPTIMIZE_CLOCKING_STRUCTURE_EN true NUM_OUT_CLKS 1 OVERRIDE_MMCM false MMCM_DIVCLK_DIVIDE 1 MMCM_CLKFBOUT_MULT_F 12
    MMCM_CLKOUT0_DIVIDE_F 12 CLKOUT1_USED true CLKOUT1_DRIVES Buffer CLKOUT1_REQUESTED_OUT_FREQ 100
  }
  foreach n {2 3 4 5 6 7} {
    lappend p CLKOUT${n}_USED false CLKOUT${n}_DRIVES Buffer CLKOUT${n}_REQUESTED_OUT_FREQ 100 \
      MMCM_CLKOUT[expr {$n - 1}]_DIVIDE 1
  }
  return $p
}
# Some parameters count only once others are set, in a call of their own.
proc guard::clk_wiz {before name} {
  if {[regexp {CLKOUT([2-7])_REQUESTED_OUT_FREQ} $name - n] && [dict get $before CLKOUT${n}_USED] ne "true"} {
    refuse "$name is read-only: output $n is not used"
  }
  if {[string match MMCM_* $name] && [dict get $before OVERRIDE_MMCM] ne "true"} {
    refuse "$name is read-only: OVERRIDE_MMCM is not set"
  }
}
proc shape::clk_wiz {c} {
  set pins {{clk_in1 I clk {}} {locked O data {}}}
  set buses {}
  if {[dict get $c USE_DYN_RECONFIG]} {
    lappend pins {s_axi_aclk I clk {}} {s_axi_aresetn I rst {}}
    lappend buses {s_axi_lite Slave aximm {}}
  } else {
    lappend pins {reset I rst {}}
  }
  foreach n {1 2 3 4 5 6 7} {if {[dict get $c CLKOUT${n}_USED]} {lappend pins [list clk_out$n O clk {}]}}
  return [list $pins {} $buses {}]
}

set ps_ports {HPC0 HPC1 HP0 HP1 HP2 HP3 LPD}
proc parameters::zynq_ultra_ps_e {} {
  set p {
    PRESET 0 PSU__FPGA_PL0_ENABLE 1 PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 100 PSU__USE__FABRIC__RST 1
    PSU__NUM_FABRIC_RESETS 1 PSU__USE__IRQ0 0 PSU__USE__M_AXI_GP0 1 PSU__MAXIGP0__DATA_WIDTH 128 PSU__USE__M_AXI_GP1 1
    PSU__USE__M_AXI_GP2 0
  }
  foreach n {0 1 2 3 4 5 6} {lappend p PSU__USE__S_AXI_GP$n 0 PSU__SAXIGP${n}__DATA_WIDTH 128}
  return $p
}
proc shape::zynq_ultra_ps_e {c} {
  set pins {{pl_resetn0 O rst {}}}
  set buses {}
  if {[dict get $c PSU__FPGA_PL0_ENABLE]} {lappend pins {pl_clk0 O clk {}}}
  if {[dict get $c PSU__USE__IRQ0]} {lappend pins {pl_ps_irq0 I intr 0}}
  foreach {n name} {0 hpm0_fpd 1 hpm1_fpd 2 hpm0_lpd} {
    if {[dict get $c PSU__USE__M_AXI_GP$n]} {
      lappend pins [list maxi${name}_aclk I clk {}]
      lappend buses [list M_AXI_[string toupper $name] Master aximm {}]
    }
  }
  foreach n {0 1 2 3 4 5 6} name $::ps_ports {
    if {![dict get $c PSU__USE__S_AXI_GP$n]} continue
    set clock [expr {$name eq "LPD" ? "saxi_lpd_aclk" : "saxi[string tolower $name]_fpd_aclk"}]
    lappend pins [list $clock I clk {}]
    set width [list DATA_WIDTH [dict get $c PSU__SAXIGP${n}__DATA_WIDTH]]
    lappend buses [list S_AXI_$name[expr {$name eq "LPD" ? "" : "_FPD"}] Slave aximm $width]
  }
  return [list $pins {} $buses Data]
}

proc range {from to} {
  set all {}
  for {set n $from} {$n <= $to} {incr n} {lappend all $n}
  return $all
}

# --- cells -----------------------------------------------------------------------------------------------------------

proc kind_of {vlnv} {return [lindex [split $vlnv :] 2]}

proc create_bd_cell {args} {
  set o [options $args {} {-type -vlnv -reference}]
  set name [absolute [dict get $o ""]]
  if {[info exists ::cell($name)]} {refuse "cell $name is there already"}
  if {[dict get $o -type] eq "module"} {
    set reference [dict get $o -reference]
    if {"$reference.v" ni [lmap f $::project(sources) {file tail $f}]} {refuse "no source of module $reference"}
    set vlnv xilinx.com:module_ref:$reference:1.0
  } else {
    set vlnv [dict get $o -vlnv]
    if {$vlnv ni [known_ips]} {refuse "the catalogue has no $vlnv"}
  }
  set configuration [expr {[dict exists $::catalogue $vlnv] ? [dict get $::catalogue $vlnv parameters]
    : [parameters::[kind_of $vlnv]]}]
  set ::cell($name) [list $vlnv $configuration]
  reshape $name
  record cell $name $vlnv
  return $name
}

# Give a cell the pins and interfaces of its parameters.
proc reshape {name} {
  lassign $::cell($name) vlnv configuration
  if {[dict exists $::catalogue $vlnv]} {
    set core [dict get $::catalogue $vlnv]
    lassign [list [dict get $core pins] [dict get $core inner] [dict get $core interfaces]] pins inner buses
    set spaces {}
    foreach b $buses {if {[lrange $b 1 2] eq {Master aximm}} {lappend spaces Data_[lindex $b 0]}}
  } else {
    lassign [shape::[kind_of $vlnv] $configuration] pins inner buses spaces
  }
  set keep {}
  foreach {list intf} [list $pins FALSE $inner TRUE] {
    foreach p $list {
      lassign $p pin dir type left
      if {$left ne ""} {dict with configuration {set left [expr $left]}}
      set ::pin($name/$pin) [list $dir $type $left $intf]
      lappend keep $name/$pin
    }
  }
  foreach b $buses {
    lassign $b bus mode kind properties
    set ::bus($name/$bus) [list $mode $kind $properties]
    lappend keep $name/$bus
  }
  foreach table {::pin ::bus} {
    foreach old [array names $table $name/*] {
      if {$old in $keep} continue
      if {[info exists ::net($old)] || [info exists ::bus_net($old)]} {refuse "$old would go, but is joined"}
      unset ${table}($old)
    }
  }
  foreach s $spaces {set ::space($name/$s) {}}
}

proc known_ips {} {
  set all $::vendor
  foreach vlnv [dict keys $::catalogue] {
    if {![string match *:module_ref:* $vlnv] && [info exists ::project(repositories)]} {lappend all $vlnv}
  }
  return $all
}

proc get_ipdefs {args} {
  set o [options $args {-quiet -all}]
  return [lsearch -all -inline -glob [known_ips] [lindex [dict get $o ""] 0]]
}

proc configure {name settings} {
  lassign $::cell($name) vlnv configuration
  set before $configuration
  foreach {key value} $settings {
    if {![regsub {^CONFIG\.} $key {} parameter] || ![dict exists $configuration $parameter]} {
      refuse "$vlnv has no parameter $key"
    }
    if {[info procs guard::[kind_of $vlnv]] ne ""} {guard::[kind_of $vlnv] $before $parameter}
    dict set configuration $parameter $value
    record config $name $parameter $value
  }
  set ::cell($name) [list $vlnv $configuration]
  reshape $name
}

proc apply_bd_automation {args} {
  set o [options $args {} {-rule -config}]
  if {[dict get $o -rule] ne "xilinx.com:bd_rule:zynq_ultra_ps_e" || [dict get $o -config] ne {apply_board_preset "1"}} {
    refuse "rule $args"
  }
  if {![info exists ::project(board_part)]} {refuse "no board part, so no preset"}
  configure [dict get $o ""] {CONFIG.PRESET 1}
}

# --- objects ---------------------------------------------------------------------------------------------------------

# The objects of a table, by patterns, cell and filter, as Vivado's get_bd_* commands choose them.
proc choose {table arguments} {
  upvar #0 $table objects
  set o [options $arguments -quiet {-of_objects -filter}]
  set found {}
  if {[dict exists $o -of_objects]} {
    foreach owner [dict get $o -of_objects] {
      if {![info exists ::cell([absolute $owner])]} {refuse "$owner is no cell"}
      lappend found {*}[lsort -dictionary [array names objects [absolute $owner]/*]]
    }
  } elseif {[dict get $o ""] eq ""} {
    set found [lsort -dictionary [array names objects]]
  } else {
    # A pattern's star ends at a slash.
    foreach pattern [join [dict get $o ""]] {
      set pattern [absolute $pattern]
      foreach name [lsort -dictionary [array names objects $pattern]] {
        if {[regexp -all / $name] == [regexp -all / $pattern]} {lappend found $name}
      }
    }
    if {$found eq "" && ![dict exists $o -quiet]} {refuse "nothing in $table matches [dict get $o {}]"}
  }
  if {![dict exists $o -filter]} {return $found}
  return [lmap name $found {expr {[passes $name [dict get $o -filter]] ? $name : [continue]}}]
}

proc passes {name filter} {
  foreach term [split [string map {&& \x01} $filter] \x01] {
    if {![regexp {^\s*(\w+) == (\w+)\s*$} $term - property wanted]} {refuse "filter $filter"}
    if {[get_property $property $name] ne $wanted} {return 0}
  }
  return 1
}

proc get_bd_cells {args} {return [choose cell $args]}
proc get_bd_pins {args} {return [choose pin $args]}
proc get_bd_intf_pins {args} {return [choose bus $args]}
proc get_bd_addr_spaces {args} {return [choose space $args]}
proc get_bd_addr_segs {args} {
  make_segments
  return [choose segment $args]
}
proc get_bd_nets {args} {
  set name [dict get [options $args -quiet -of_objects] -of_objects]
  return [expr {[info exists ::net($name)] ? $::net($name) : ""}]
}
proc get_bd_intf_nets {args} {
  set name [dict get [options $args -quiet -of_objects] -of_objects]
  return [expr {[info exists ::bus_net($name)] ? $::bus_net($name) : ""}]
}

# --- joins -----------------------------------------------------------------------------------------------------------

proc connect_bd_net {args} {
  set drivers {}
  set sinks {}
  foreach name $args {
    if {![info exists ::pin($name)]} {refuse "$name is no pin"}
    if {[lindex $::pin($name) 0] eq "O"} {lappend drivers $name} else {lappend sinks $name}
  }
  if {[llength $drivers] != 1 || [llength $sinks] == 0} {refuse "a net needs one driver and a sink: $args"}
  foreach name $sinks {
    if {[info exists ::net($name)]} {refuse "$name is joined to $::net($name) already"}
    set ::net($name) $drivers
    record net $drivers $name
  }
  set ::net($drivers) $drivers
}

proc connect_bd_intf_net {a b} {
  foreach name [list $a $b] {
    if {![info exists ::bus($name)]} {refuse "$name is no interface"}
    if {[info exists ::bus_net($name)]} {refuse "$name is joined to $::bus_net($name) already"}
  }
  lassign $::bus($a) mode_a kind_a
  lassign $::bus($b) mode_b kind_b
  if {$kind_a ne $kind_b} {refuse "$a ($kind_a) does not fit $b ($kind_b)"}
  if {"$mode_a$mode_b" ne "MasterSlave"} {refuse "$a ($mode_a) to $b ($mode_b)"}
  set ::bus_net($a) $b
  set ::bus_net($b) $a
  record bus $a $b
}

# --- addresses -------------------------------------------------------------------------------------------------------

# Segments appear with the interfaces that have them.
proc make_segments {} {
  foreach name [array names ::bus] {
    lassign $::bus($name) mode kind
    if {"$mode$kind" ne "Slaveaximm"} continue
    set owner [file dirname $name]
    set vlnv [lindex $::cell($owner) 0]
    switch -glob $vlnv {
      *:zynq_ultra_ps_e:* {
        regexp {S_AXI_([^_]+)} $name - port
        set prefix $owner/SAXIGP[lsearch $::ps_ports $port]/${port}
        foreach s {DDR_LOW LPS_OCM QSPI} {set ::segment(${prefix}_$s) {}}
        # The board's preset tells of more than 2 GB.
        if {[dict get [lindex $::cell($owner) 1] PRESET]} {set ::segment(${prefix}_DDR_HIGH) {}}
      }
      *:smartconnect:* {}
      *:module_ref:* {set ::segment($name/reg0) {}}
      *:axi_intc:* {set ::segment($owner/S_AXI/Reg) {}}
      default {set ::segment($name/Reg) {}}
    }
  }
}

proc assign_bd_address {args} {
  set o [options $args -force {-offset -range -target_address_space}]
  set space [dict get $o -target_address_space]
  set segment [dict get $o ""]
  if {![info exists ::space($space)]} {refuse "$space is no address space"}
  if {[llength $segment] != 1 || ![info exists ::segment($segment)]} {refuse "$segment is no address segment"}
  set size [expr {[dict get $o -range]}]
  set base [expr {[dict get $o -offset]}]
  if {$size & ($size - 1) || $base % min($size, 1 << 31)} {refuse "range $size at $base"}
  foreach old $::space($space) {
    lassign $old name at bytes
    if {$name eq $segment || ($base < $at + $bytes && $at < $base + $size)} {refuse "$segment over $old"}
  }
  lappend ::space($space) [list $segment $base $size]
  record address $space $segment $base $size
}

proc exclude_bd_addr_seg {args} {
  set o [options $args {} -target_address_space]
  set space [dict get $o -target_address_space]
  set segment [dict get $o ""]
  if {![info exists ::space($space)] || ![info exists ::segment($segment)]} {refuse "exclude $args"}
  if {$segment in [lmap s $::space($space) {lindex $s 0}]} {refuse "$segment is mapped"}
  record exclude $space $segment
}

# --- properties ------------------------------------------------------------------------------------------------------

proc get_property {args} {
  set o [options $args -min]
  lassign [dict get $o ""] name object
  if {[info exists ::pin($object)]} {
    set n [lsearch {DIR TYPE LEFT INTF} $name]
    if {$name eq "RIGHT"} {return [expr {[lindex $::pin($object) 2] eq "" ? "" : 0}]}
    if {$n >= 0} {return [lindex $::pin($object) $n]}
  } elseif {[info exists ::bus($object)]} {
    if {[regsub {^CONFIG\.} $name {} key] && [dict exists [lindex $::bus($object) 2] $key]} {
      return [dict get [lindex $::bus($object) 2] $key]
    }
  } elseif {[info exists ::cell($object)]} {
    if {$name eq "VLNV"} {return [lindex $::cell($object) 0]}
  } elseif {[info exists ::run($object)]} {
    if {[dict exists $::run($object) $name]} {return [dict get $::run($object) $name]}
  }
  refuse "$object has no property $name"
}

proc set_property {args} {
  set o [options $args -dict]
  set rest [dict get $o ""]
  if {[dict exists $o -dict]} {
    lassign $rest settings object
  } else {
    lassign $rest name value object
    set settings [list $name $value]
  }
  if {[llength $object] != 1} {refuse "set_property $settings on nothing"}
  if {[info exists ::cell($object)]} {return [configure $object $settings]}
  foreach {name value} $settings {
    if {[info exists ::pin($object)] && $name eq "CONFIG.FREQ_HZ"} {
      if {[lindex $::pin($object) 1] ne "clk"} {refuse "$object is no clock"}
      record frequency $object $value
    } elseif {$object eq "project" && $name in {board_part target_language ip_repo_paths}} {
      if {$name eq "ip_repo_paths"} {set ::project(folders) $value}
      set ::project($name) $value
      record project $name $value
    } elseif {$object eq "sources_1" && $name eq "top"} {
      record top $value
    } elseif {[info exists ::run($object)] && $name eq "strategy"} {
      record strategy $object $value
    } elseif {$object in $::project(files) && $name in {used_in_synthesis processing_order}} {
      record file_property [file tail $object] $name $value
    } else {
      refuse "set_property $name on $object"
    }
  }
}

# --- project ---------------------------------------------------------------------------------------------------------

proc version {args} {return 2024.2}

proc get_parts {args} {
  set o [options $args -quiet]
  return [expr {$::trouble eq "no-part" ? "" : [dict get $o ""]}]
}

proc get_board_parts {args} {
  set o [options $args -quiet]
  if {$::trouble eq "no-board"} {return ""}
  set all {}
  foreach v {3.4 3.10 3.3} {lappend all xilinx.com:zcu102:part0:$v}
  foreach v {1.4 1.2} {lappend all xilinx.com:zcu111:part0:$v}
  return [lsearch -all -inline -glob $all [dict get $o ""]]
}

proc create_project {args} {
  set o [options $args -force -part]
  lassign [dict get $o ""] name folder
  file delete -force $folder
  file mkdir $folder
  array set ::project [list open 1 name $name folder $folder sources {} files {}]
  foreach r {synth_1 impl_1} {new_run $r}
  record create_project $name [dict get $o -part]
  set out [open [file join $folder $name.xpr] w]
  close $out
}

proc current_project {} {return project}
proc current_fileset {} {return sources_1}

proc update_ip_catalog {args} {
  options $args -rebuild
  foreach folder $::project(folders) {
    if {![file exists [file join $folder component.xml]]} {refuse "$folder holds no IP"}
  }
  set ::project(repositories) $::project(folders)
}

proc add_files {args} {
  set o [options $args -norecurse -fileset]
  foreach path [join [dict get $o ""]] {
    if {![file exists $path]} {refuse "$path does not exist"}
    lappend ::project(files) $path
    lappend ::project(sources) $path
    record file [expr {[dict exists $o -fileset] ? [dict get $o -fileset] : "sources_1"}] $path
  }
}

proc update_compile_order {args} {options $args {} -fileset}

proc get_files {args} {
  set o [options $args -quiet]
  set wanted [dict get $o ""]
  return [lsearch -all -inline -glob $::project(files) *[file tail $wanted]]
}

proc create_bd_design {name} {
  record create_bd_design $name
  set ::project(bd) $name
  lappend ::project(files) $name.bd
}
proc validate_bd_design {} {
  record validate_bd_design
  if {$::trouble eq "validate"} {refuse "validation failed"}
}
proc save_bd_design {} {record save_bd_design}

proc generate_target {what files} {
  set folder [file join $::project(folder) $::project(name).gen sources_1 bd $::project(bd) hw_handoff]
  file mkdir $folder
  if {$::trouble ne "no-hwh"} {
    set out [open [file join $folder $::project(bd).hwh] w]
    puts $out "<EDKSYSTEM/>"
    close $out
  }
  record generate_target $what $files
}

proc make_wrapper {args} {
  options $args -top -files
  set path [file join $::project(folder) $::project(bd)_wrapper.v]
  close [open $path w]
  return $path
}

proc close_project {} {
  save_runs
  set ::project(open) 0
}

# --- runs ------------------------------------------------------------------------------------------------------------

proc new_run {name} {
  set ::run($name) [list PROGRESS 0% STATUS "Not started" NEEDS_REFRESH 0 \
    DIRECTORY [file join $::project(folder) $::project(name).runs $name]]
}

proc save_runs {} {
  set out [open [file join $::project(folder) runs.txt] w]
  puts -nonewline $out [array get ::run]
  close $out
}

proc open_project {path} {
  if {![file exists $path]} {refuse "$path does not exist"}
  array set ::project [list open 1 name [file rootname [file tail $path]] folder [file dirname $path]]
  set in [open [file join $::project(folder) runs.txt]]
  array set ::run [read $in]
  close $in
}

proc get_runs {name} {
  if {![info exists ::run($name)]} {refuse "no run $name"}
  return $name
}

proc reset_run {name} {
  new_run $name
  record reset_run $name
}

proc launch_runs {args} {
  set o [options $args {} -jobs]
  set name [dict get $o ""]
  record launch_runs $name [dict get $o -jobs]
  if {$name eq "impl_1" && [dict get $::run(synth_1) PROGRESS] ne "100%"} {refuse "synth_1 is not complete"}
  if {$::trouble eq "fail-$name"} {
    dict set ::run($name) STATUS "$name ERROR"
    dict set ::run($name) PROGRESS 40%
  } else {
    dict set ::run($name) STATUS "$name Complete!"
    dict set ::run($name) PROGRESS 100%
  }
  save_runs
  if {$::trouble eq "killed-$name"} {exit 9}
}

proc wait_on_runs {name} {}

proc open_run {name} {
  set in [open [file join $::env(FAKE_REPORTS) stats.txt]]
  foreach {figure value} [read $in] {dict set ::run($name) STATS.$figure $value}
  close $in
}

proc hand_out {name arguments} {
  set o [options $arguments {-report_unconstrained -hierarchical -details} {-file -max_paths}]
  record report $name [file tail [dict get $o -file]]
  set source [file join $::env(FAKE_REPORTS) $name.rpt]
  if {[file exists $source]} {file copy -force $source [dict get $o -file]} else {close [open [dict get $o -file] w]}
}
foreach report {timing_summary utilization clocks clock_interaction cdc} {
  proc report_$report {args} "hand_out $report \$args"
}

proc get_pins {args} {return [dict get [options $args -quiet] ""]}
proc get_clocks {args} {
  set o [options $args -quiet -of_objects]
  if {$::trouble eq "clocks"} {return clk_out1_zynqbert}
  return {clk_out1_zynqbert clk_out2_zynqbert clk_out3_zynqbert clk_out4_zynqbert}
}

proc write_bitstream {args} {
  set o [options $args -force]
  record write_bitstream [file tail [dict get $o ""]]
  if {$::trouble eq "no-bit"} return
  set out [open [dict get $o ""] w]
  puts $out "bits of $::project(name)"
  close $out
}

source $script
