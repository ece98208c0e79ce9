"""Score the images of a run."""
