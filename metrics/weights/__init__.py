"""Catalog, files and downloads of the metrics' network weights."""
