"""Plugin sites: Civitai, the Hugging Face Hub, licenses."""
