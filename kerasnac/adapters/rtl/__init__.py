"""Adder graphs by da4ml, as costs and as Verilog, which Verilator simulates and Yosys synthesises."""
