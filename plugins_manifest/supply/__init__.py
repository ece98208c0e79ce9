"""Resolve, lock and verify the plugin files of a manifest."""
