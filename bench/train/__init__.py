"""Training of mappers by recipes, and studies of their variants."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.train.recipe import load_recipe as load_recipe
    from bench.train.recipe import parse_overrides as parse_overrides
    from bench.train.recipe import shipped_recipes as shipped_recipes
    from bench.train.run import train_recipe as train_recipe
    from bench.train.schema import Recipe as Recipe
    from bench.train.study import Measure as Measure
    from bench.train.study import Score as Score
    from bench.train.study import Study as Study
    from bench.train.study import Trained as Trained
    from bench.train.study import Variant as Variant
    from bench.train.study import Way as Way
    from bench.train.study import scene_values as scene_values
    from bench.train.study import seed_difference as seed_difference

__all__ = [
    "Measure",
    "Recipe",
    "Score",
    "Study",
    "Trained",
    "Variant",
    "Way",
    "load_recipe",
    "parse_overrides",
    "scene_values",
    "seed_difference",
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
        **dict.fromkeys(
            ("Measure", "Score", "Study", "Trained", "Variant", "Way"), "bench.train.study"
        ),
        "scene_values": "bench.train.study",
        "seed_difference": "bench.train.study",
    },
)
