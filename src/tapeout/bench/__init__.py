"""Tables of many runs: what is run, in processes of its own, and what the results amount to."""
