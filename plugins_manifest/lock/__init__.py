"""Lock files: pinned versions and hashes of plugins."""
