"""Circuits learned from examples: oracles, diagrams, netlists, proofs. Knows nothing of processors."""
