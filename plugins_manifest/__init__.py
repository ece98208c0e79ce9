"""What is evaluated: the manifest's schema (`schema`, `load`), shipped manifests, cases."""
