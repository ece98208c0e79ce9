"""Studies of a recipe's variants: train each with several seeds, and judge what plugins do."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.train.study.study import Measure as Measure
    from bench.train.study.study import Score as Score
    from bench.train.study.study import Study as Study
    from bench.train.study.study import Trained as Trained
    from bench.train.study.study import Variant as Variant
    from bench.train.study.study import Way as Way
    from bench.train.study.study import scene_values as scene_values
    from bench.train.study.study import seed_difference as seed_difference

__all__ = [
    "Measure",
    "Score",
    "Study",
    "Trained",
    "Variant",
    "Way",
    "scene_values",
    "seed_difference",
]
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "bench.train.study.study"))
