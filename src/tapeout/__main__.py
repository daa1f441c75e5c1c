"""`python -m tapeout`: the command line."""

from tapeout.cli import main

main()
