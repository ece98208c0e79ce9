"""Load plugins of every kind, and attach them to a family within a context.

The kinds and their loaders: `plugins_manifest.schema.kinds`.
"""

from runners.plugins.attachment import (
    AttachedControl,
    AttachedImagePrompt,
    AttachedT2I,
    Attachment,
    LoadedPlugin,
    with_attachment,
)
from runners.plugins.load import attach_all, load_plugin, load_stack

__all__ = [
    "AttachedControl",
    "AttachedImagePrompt",
    "AttachedT2I",
    "Attachment",
    "LoadedPlugin",
    "attach_all",
    "load_plugin",
    "load_stack",
    "with_attachment",
]
