"""Ways to make an image: methods, families of models, plugins, and groups that share work."""
