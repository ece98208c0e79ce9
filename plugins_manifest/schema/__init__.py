"""The manifest: models, parsing, messages, and what is measured together."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from plugins_manifest.schema.load import load_manifest as load_manifest
    from plugins_manifest.schema.load import parse_manifest as parse_manifest
    from plugins_manifest.schema.manifest import Manifest as Manifest
    from plugins_manifest.schema.manifest import Settings as Settings
    from plugins_manifest.schema.plugins import KnownNames as KnownNames
    from plugins_manifest.schema.plugins import PluginSpec as PluginSpec
    from plugins_manifest.schema.references import parse_reference as parse_reference
    from plugins_manifest.schema.stacks import PluginSet as PluginSet
    from plugins_manifest.schema.stacks import plugin_sets as plugin_sets
    from plugins_manifest.schema.words import PluginKindName as PluginKindName

__all__ = [
    "KnownNames",
    "Manifest",
    "PluginKindName",
    "PluginSet",
    "PluginSpec",
    "Settings",
    "load_manifest",
    "parse_manifest",
    "parse_reference",
    "plugin_sets",
]
__getattr__ = lazy_names(
    __name__,
    {
        "KnownNames": "plugins_manifest.schema.plugins",
        "Manifest": "plugins_manifest.schema.manifest",
        "PluginKindName": "plugins_manifest.schema.words",
        "PluginSet": "plugins_manifest.schema.stacks",
        "PluginSpec": "plugins_manifest.schema.plugins",
        "Settings": "plugins_manifest.schema.manifest",
        "load_manifest": "plugins_manifest.schema.load",
        "parse_manifest": "plugins_manifest.schema.load",
        "parse_reference": "plugins_manifest.schema.references",
        "plugin_sets": "plugins_manifest.schema.stacks",
    },
)
