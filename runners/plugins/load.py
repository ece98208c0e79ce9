"""Load plugins by their kind, and attach them within a context; weights are restored on exit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pkgutil import resolve_name

from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.schema.kinds import KINDS, find_kind
from runners.audit import PluginNotAppliedError
from runners.base import PluginFile
from runners.families import Family
from runners.plugins.attachment import Attachment, LoadedPlugin


def load_plugin(file: PluginFile, family: Family) -> LoadedPlugin:
    """Read a plugin and check it against the family; `t2i_adapter` and `t2i-adapter` are one kind.

    Raises `UserError` for a kind that cannot be rendered and for a file that does not fit.
    """
    kind = find_kind(file.kind)
    if kind is None:
        labels = [kind.label for kind in KINDS.values()]
        problem = unknown_name("kind", file.kind, labels)
        raise UserError(f"plugin {file.plugin_id!r}: {problem}")
    try:
        return resolve_name(kind.loader)(file, family)
    except PluginNotAppliedError as error:
        error.plugin_id = file.plugin_id
        raise


@contextmanager
def attach_all(
    plugins: Sequence[LoadedPlugin], family: Family, strengths: Sequence[float]
) -> Iterator[Attachment]:
    """Attach plugins in order, each at its strength; every weight is restored on exit."""
    merged = Attachment()
    with ExitStack() as stack:
        for plugin, strength in zip(plugins, strengths, strict=True):
            merged = merged.joined(stack.enter_context(plugin.attached(family, strength=strength)))
        yield merged
