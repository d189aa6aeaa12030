"""Measurements: one command a table."""
