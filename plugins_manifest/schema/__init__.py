"""The manifest: models, loading and error messages."""
