"""Model families: a base model, an upgraded model and a mapper."""
