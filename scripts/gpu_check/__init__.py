"""The stages of `scripts/gpu-check`: what a GPU does with the project's own code."""
