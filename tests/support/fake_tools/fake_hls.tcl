# SPDX-License-Identifier: Apache-2.0
# The HLS tool's Tcl commands, as far as the build uses them: settings are kept, actions go to fake_hls.py with all that
# was set before. Any other command is an error, as it is in tclsh.
set said {}
foreach command {open_project set_top add_files open_solution set_part create_clock set_clock_uncertainty
                 set_directive_interface} {
  proc $command args "lappend ::said \[join \[list $command {*}\$args\] \\t\]"
}
foreach command {csim_design csynth_design cosim_design export_design} {
  proc $command args "lappend ::said \[join \[list $command {*}\$args\] \\t\]
    exec \$::env(ZQ_FAKE_PYTHON) \$::env(ZQ_FAKE_HLS) << \[join \$::said \\n\] >@stdout 2>@stderr"
}
source [lindex $argv 0]
