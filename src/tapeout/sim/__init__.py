"""The simulated machine: values, cycles, and the readable reference of the timing rules."""
