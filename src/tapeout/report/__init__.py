"""Reports: bounds, numerics, and what a run prints or writes."""
