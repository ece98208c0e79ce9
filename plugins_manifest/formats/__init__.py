"""Plugin files: what is in them and what each key means, with numpy alone."""
