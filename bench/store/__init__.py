"""The run directory, its schemas and the image cache."""
