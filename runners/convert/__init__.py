"""Make a LoRA for the upgraded model of a family from one that was made for the base model.

`distill` fits it to a teacher's pictures; the closed forms (`copy`, `prolora`, `theseus`,
`random-rotation`) compute it from weights and features. `xbench convert` is the command.
"""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names
from runners.convert.benchmark import benchmark_text

if TYPE_CHECKING:
    from runners.convert.conversion import Conversion as Conversion
    from runners.convert.conversion import Converted as Converted
    from runners.convert.conversion import Teacher as Teacher
    from runners.convert.conversion import convert as convert
    from runners.convert.distill import FitPlan as FitPlan
    from runners.convert.pictures import Prompt as Prompt
    from runners.convert.pictures import draw_pictures as draw_pictures

__all__ = [
    "Conversion",
    "Converted",
    "FitPlan",
    "Prompt",
    "Teacher",
    "benchmark_text",
    "convert",
    "draw_pictures",
]
_HOME = "runners.convert.conversion"
__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Conversion", "Converted", "Teacher", "convert"), _HOME),
        "FitPlan": "runners.convert.distill",
        **dict.fromkeys(("Prompt", "draw_pictures"), "runners.convert.pictures"),
    },
)
