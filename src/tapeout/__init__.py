"""Tapeout: from one chip description file to compiler, simulator and benchmarks for that chip."""

__version__ = "0.1.0"
