"""What is evaluated: schema, manifests, sources. Never imports torch."""
