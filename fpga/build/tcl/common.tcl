# SPDX-License-Identifier: Apache-2.0
# What both scripts need. Each is called as
#   vivado -mode batch -source SCRIPT -tclargs SETTINGS
# SETTINGS sets the array `design` (fpga/block_design.py). A failure ends Vivado with exit code 1, and its reason stands
# in the log in a line that begins with "zynqbert: ".

proc fail {message} {
  return -code error -errorcode ZYNQBERT $message
}

# Runs the body of a script; its error is told in one line, the trace of it after that line.
proc run_script {body} {
  if {[catch {uplevel #0 $body} message options]} {
    puts stderr "zynqbert: [string map {"\n" " "} $message]"
    if {[lindex [dict get $options -errorcode] 0] ne "ZYNQBERT"} {
      puts stderr [dict get $options -errorinfo]
    }
    exit 1
  }
}

# The newest version of an IP in the catalogue, by vendor:library:name.
proc newest_ip {name} {
  set found [lsort -dictionary [get_ipdefs -quiet -all "$name:*"]]
  if {[llength $found] == 0} {
    fail "Vivado's catalogue has no $name; remedy: [remedy_for $name]"
  }
  return [lindex $found end]
}

proc remedy_for {name} {
  global design
  if {[string match "$design(ip_library):*" $name]} {
    return "run the ip step again (zynqbert build --step ip --force); it was looked for in: [join $design(ip_folders) {, }]"
  }
  return "a complete installation of Vivado 2024.2 or newer, which brings it"
}
