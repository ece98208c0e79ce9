"""Method `direct`: the plugin, made for the base model, loaded straight into the upgraded one.

What people do first after an upgrade. A file whose shapes differ in part is refused, as on the base
model, unless the manifest allows it to be partial; the load audit has what the upgraded model took.
The plugin scale is the strength that is swept.
"""

from __future__ import annotations

from plugins_manifest.schema.stacks import PluginArrangement
from runners.base import MethodStyle, PassName
from runners.methods.floor import Floor


class Direct(Floor):
    """The upgraded model with the base model's plugin, from noise in one stage."""

    name: str = "direct"
    uses_plugin: bool = True
    uses_base: bool = False
    arrangement: PluginArrangement = "direct"
    shares: tuple[PassName, ...] = ("plugged_text",)
    style = MethodStyle(
        25, "#8A63D2", "pentagon", "the old plugin, loaded into the upgraded model as it is"
    )
