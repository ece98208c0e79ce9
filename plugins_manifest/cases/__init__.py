"""Prompts, conditions and photos of a benchmark, COCO among them."""
