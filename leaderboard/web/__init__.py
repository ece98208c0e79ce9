"""HTTP headers, origin checks and the image route."""
