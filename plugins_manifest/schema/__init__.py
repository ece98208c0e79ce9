"""The manifest: models, parsing, messages, and what is measured together."""

from plugins_manifest.schema.load import load_manifest, parse_manifest
from plugins_manifest.schema.manifest import Manifest, Settings
from plugins_manifest.schema.plugins import KnownNames, PluginSpec
from plugins_manifest.schema.references import parse_reference
from plugins_manifest.schema.stacks import PluginSet, plugin_sets
from plugins_manifest.schema.words import PluginKindName

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
