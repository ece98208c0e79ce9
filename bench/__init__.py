"""The harness: plan, execute, store, score, summarise, gate."""
