"""Inspect untrusted plugin files without executing them."""
