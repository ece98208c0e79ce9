"""The zoo: files of every plugin format, right, broken and hostile, made by code."""

from tests.plugins_manifest.zoo.animal import Animal, Cage
from tests.plugins_manifest.zoo.broken import BROKEN, UNSUPPORTED
from tests.plugins_manifest.zoo.hostile import HOSTILE, NOT_WEIGHTS
from tests.plugins_manifest.zoo.lora import LORAS
from tests.plugins_manifest.zoo.lycoris import LYCORIS
from tests.plugins_manifest.zoo.networks import NETWORKS

ZOO: tuple[Animal, ...] = (
    *LORAS,
    *LYCORIS,
    *NETWORKS,
    *BROKEN,
    *UNSUPPORTED,
    *NOT_WEIGHTS,
    *HOSTILE,
)

__all__ = ["ZOO", "Animal", "Cage"]
