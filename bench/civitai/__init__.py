"""Render reference pictures with the hosted generator of Civitai."""
