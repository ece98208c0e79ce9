"""Make a LoRA for the upgraded model of a family from one that was made for the base model.

`distill` fits it to a teacher's pictures; the closed forms (`copy`, `prolora`, `theseus`,
`random-rotation`) compute it from weights and features. `xbench convert` is the command.
"""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names
from runners.convert.request import Conversion, FitPlan, Prompt, Teacher

if TYPE_CHECKING:
    from runners.convert.conversion import Converted as Converted
    from runners.convert.conversion import convert as convert
    from runners.convert.pictures import draw_pictures as draw_pictures

__all__ = [
    "Conversion",
    "Converted",
    "FitPlan",
    "Prompt",
    "Teacher",
    "convert",
    "draw_pictures",
]
_HOME = "runners.convert.conversion"
__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Converted", "convert"), _HOME),
        "draw_pictures": "runners.convert.pictures",
    },
)
