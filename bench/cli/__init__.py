"""The command line, one file per command group; its entry point is `bench.cli.main:main`."""
