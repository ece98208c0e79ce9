"""Ways to make an image."""
