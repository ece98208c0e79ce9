"""The networks behind metrics, one a file; each loads torch and its library when imported."""
