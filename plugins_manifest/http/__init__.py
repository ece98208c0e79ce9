"""One HTTP client with retry, resume and guards against untrusted servers."""
