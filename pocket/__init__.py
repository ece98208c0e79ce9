"""A tiny trained model family with its own world of scenes, plugins and judges."""
