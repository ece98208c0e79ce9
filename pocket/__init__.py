"""Tiny trained model family: procedural scenes, plugins, analytic oracle and scorer."""
