"""Firmware and Verilog that equal Keras in every bit, and what they cost."""
