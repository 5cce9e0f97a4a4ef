# SPDX-License-Identifier: Apache-2.0
# Synthesis, implementation, reports and, if timing is met, the bitstream with its .hwh. Called again after a break it
# goes on with the first run that is not complete. Exit code 3: timing is not met; the reports say by how much.

source [file join [file dirname [info script]] common.tcl]
source [lindex $argv 0]

proc is_complete {run} {
  return [expr {[get_property PROGRESS $run] eq "100%" && ![get_property NEEDS_REFRESH $run]}]
}

proc finish_run {name} {
  global design
  set run [get_runs $name]
  if {[is_complete $run]} {
    puts "zynqbert keeps $name, which is complete"
    return
  }
  reset_run $run
  launch_runs $run -jobs $design(jobs)
  wait_on_runs $run
  if {![is_complete $run]} {
    fail "$name ended with '[get_property STATUS $run]'; its log: [file join [get_property DIRECTORY $run] runme.log]"
  }
}

# Whether each figure is there and not negative. TPWS is a sum: 0 or less.
proc timing_is_met {run} {
  foreach figure {WNS TNS WHS THS TPWS} {
    set value [get_property STATS.$figure $run]
    if {![string is double -strict $value]} {fail "run impl_1 has no figure $figure ('$value')"}
    puts "zynqbert reads $figure = $value ns"
    if {$value < 0} {return 0}
  }
  return 1
}

proc write_reports {folder} {
  file mkdir $folder
  report_timing_summary -max_paths 10 -report_unconstrained -file [file join $folder timing_summary.rpt]
  report_utilization -file [file join $folder utilization.rpt]
  report_utilization -hierarchical -file [file join $folder utilization_hierarchical.rpt]
  report_clocks -file [file join $folder clocks.rpt]
  report_clock_interaction -file [file join $folder clock_interaction.rpt]
  report_cdc -details -file [file join $folder cdc.rpt]
}

# The engine's clocks must be the wizard's four outputs, else the exceptions between them were set for nothing.
proc check_clocks {} {
  global design
  set clocks [get_clocks -quiet -of_objects [get_pins -quiet $design(name)_i/clock_select/engine_clk]]
  if {[llength $clocks] != 4} {
    fail "[llength $clocks] clocks reach the engine ([join $clocks {, }]), must be the wizard's four"
  }
}

run_script {
  open_project [file join $design(project) $design(name).xpr]
  finish_run synth_1
  finish_run impl_1
  open_run impl_1
  check_clocks
  write_reports [file join $design(results) reports]
  if {![timing_is_met [get_runs impl_1]]} {
    puts stderr "zynqbert: timing is not met"
    exit 3
  }
  set handoff [file join $design(project) $design(name).gen sources_1 bd $design(name) hw_handoff $design(name).hwh]
  if {![file exists $handoff]} {fail "$handoff is missing: the block design was not generated"}
  write_bitstream -force [file join $design(results) $design(name).bit]
  file copy -force $handoff [file join $design(results) $design(name).hwh]
  close_project
}
