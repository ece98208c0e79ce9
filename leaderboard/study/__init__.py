"""The blind human study: design, votes and results."""
