"""The control processor: its instruction set as an oracle and as a formal reference, and the core learned from the
oracle."""
