"""Write tables as text, Markdown, HTML and plots."""
