"""Exact integer arithmetic on torch tensors of any device, in floats that hold integers."""
