# SPDX-License-Identifier: Apache-2.0
# Timing exceptions between clocks. The clocks themselves come with the PS and the clocking wizard.
#
# The engine's clock is one of four outputs of the wizard, chosen by the multiplexers of clock_select. Vivado carries all
# four to every register of the engine: each must be met on its own, no path goes from one to another.
set output_0 [get_clocks -of_objects [get_pins zynqbert_i/clock_select/clk0]]
set output_1 [get_clocks -of_objects [get_pins zynqbert_i/clock_select/clk1]]
set output_2 [get_clocks -of_objects [get_pins zynqbert_i/clock_select/clk2]]
set output_3 [get_clocks -of_objects [get_pins zynqbert_i/clock_select/clk3]]
set_clock_groups -name engine_outputs -logically_exclusive -group $output_0 -group $output_1 -group $output_2 -group $output_3

# Fixed and engine clock are asynchronous: the wizard is retuned, output and phase change. Still no set_clock_groups
# -asynchronous between them, which would leave the delay of the crossings free: engine_control sends words that stand
# still while a toggle goes through two registers, and a word must not come later than its toggle. So each crossing may
# take one period of the receiving clock (of output 0, the fastest, towards the engine), whatever the clocks' skew.
set fixed [get_clocks -of_objects [get_pins zynqbert_i/ps/pl_clk0]]
set engine [get_clocks -of_objects [get_pins zynqbert_i/clock_select/engine_clk]]
set_max_delay -datapath_only -from $fixed -to $engine [get_property -min PERIOD $engine]
set_max_delay -datapath_only -from $engine -to $fixed [get_property -min PERIOD $fixed]

# The clock is stopped while its output is chosen, and the gate has a synchronizer of its own (rtl/clock_select.v).
set_false_path -from $fixed -through [get_pins zynqbert_i/clock_select/select*]
set_false_path -from $fixed -through [get_pins zynqbert_i/clock_select/enable]

# Jitter of other factors than those analysed here (block_design.RETUNE_MARGIN_NS).
set_clock_uncertainty -setup 0.1 $engine
