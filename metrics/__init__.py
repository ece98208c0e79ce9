"""Image metrics and statistics."""
