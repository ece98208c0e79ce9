"""`python -m xbench`: the command line with this interpreter."""

from xbench.start import main

main()
