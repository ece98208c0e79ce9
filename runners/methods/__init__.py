"""Ways to make an image, one a file."""
