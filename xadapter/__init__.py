"""X-Adapter (arXiv 2312.02238): sampling and training on unmodified diffusers models."""
