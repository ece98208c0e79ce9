"""Compare two runs and decide whether new adapter weights made anything worse."""
