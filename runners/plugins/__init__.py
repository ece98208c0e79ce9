"""Load plugins and attach them to a pipeline, one kind a file."""
