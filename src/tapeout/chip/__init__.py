"""Chip descriptions."""
