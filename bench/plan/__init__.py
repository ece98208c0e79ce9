"""Turn a manifest and a selection into trials, with what they need and cost."""
