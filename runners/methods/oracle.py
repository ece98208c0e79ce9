"""Method `oracle`: the upgraded model with the plugin's native twin, from noise in one stage.

The twin was made for the upgraded model itself (`native:` in the manifest), so this is what an
upgrade could keep at best: a ceiling, measured and not assumed.
"""

from __future__ import annotations

from plugins_manifest.schema.stacks import PluginArrangement
from runners.methods.floor import Floor


class Oracle(Floor):
    """Rendered as `floor` is; its groups hold the native twins in place of the plugins."""

    name: str = "oracle"
    cast: PluginArrangement = "native"
