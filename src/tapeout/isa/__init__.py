"""The instruction set: commands, programs, encoding, text."""
