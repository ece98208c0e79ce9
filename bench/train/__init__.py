"""Training of mappers by recipes."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.train.recipe import load_recipe as load_recipe
    from bench.train.recipe import parse_overrides as parse_overrides
    from bench.train.recipe import shipped_recipes as shipped_recipes
    from bench.train.run import train_recipe as train_recipe
    from bench.train.schema import Recipe as Recipe

__all__ = [
    "Recipe",
    "load_recipe",
    "parse_overrides",
    "shipped_recipes",
    "train_recipe",
]
__getattr__ = lazy_names(
    __name__,
    {
        "Recipe": "bench.train.schema",
        "load_recipe": "bench.train.recipe",
        "parse_overrides": "bench.train.recipe",
        "shipped_recipes": "bench.train.recipe",
        "train_recipe": "bench.train.run",
    },
)
