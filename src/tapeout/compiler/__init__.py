"""The compiler: from a graph to a program, one pass a file."""
