"""Tensor math of plugin formats, one file per format."""
