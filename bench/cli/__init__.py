"""The command line, one file per command group; its entry point is `xbench.start:main`."""
