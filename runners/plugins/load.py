"""Load plugins by their kind, and attach them within a context; weights are restored on exit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pkgutil import resolve_name
from weakref import WeakKeyDictionary

from plugins_manifest.content import ChangedFileError, load_as_planned
from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.formats.side_files import side_files
from plugins_manifest.memory import memory_explained
from plugins_manifest.schema.kinds import KINDS, find_kind
from runners.audit import PluginNotAppliedError
from runners.base import PluginFile
from runners.families import Family
from runners.plugins.attachment import Attachment, LoadedPlugin

_KEPT: WeakKeyDictionary[Family, dict[PluginFile, LoadedPlugin]] = WeakKeyDictionary()


def load_stack(stack: Sequence[PluginFile], family: Family) -> tuple[LoadedPlugin, ...]:
    """Load plugins, and keep them for the next stack of the same model, as far as it has them.

    The files are checked again for every stack: only what still has its planned hash is kept, and
    a stack holds no more memory than its own plugins.
    """
    kept = _KEPT.setdefault(family, {})
    for file in kept.keys() - set(stack):
        del kept[file]
    loaded = []
    for file in stack:
        plugin = load_plugin(file, family, kept=kept.get(file))
        if file.planned_content:
            kept[file] = plugin
        loaded.append(plugin)
    return tuple(loaded)


def load_plugin(
    file: PluginFile, family: Family, *, kept: LoadedPlugin | None = None
) -> LoadedPlugin:
    """Read a plugin and check it against the family; `t2i_adapter` and `t2i-adapter` are one kind.

    Raises `UserError` for a kind that cannot be rendered and for a file that does not fit,
    `ChangedFileError` for a file whose content has not the planned hash. A plugin that was `kept`
    is returned instead of a second one, after the same check of the file.
    """
    kind = find_kind(file.kind)
    if kind is None:
        labels = [kind.label for kind in KINDS.values()]
        problem = unknown_name("kind", file.kind, labels)
        raise UserError(f"plugin {file.plugin_id!r}: {problem}")
    loader = resolve_name(kind.loader)

    def load() -> LoadedPlugin:
        if kept is not None:
            return kept
        with memory_explained(f"plugin {file.plugin_id!r}"):
            return loader(file, family)

    try:
        # a file that a program names directly has no planned hash
        planned = file.planned_content
        return _as_planned(load, file, planned) if planned else load()
    except PluginNotAppliedError as error:
        error.plugin_id = file.plugin_id
        raise


def _as_planned(
    load: Callable[[], LoadedPlugin], file: PluginFile, content_sha256: str
) -> LoadedPlugin:
    what = f"plugin {file.plugin_id!r}"
    for path, sha256 in file.side_files:
        load = partial(load_as_planned, load, path, sha256, what=what)
    loaded = load_as_planned(load, file.path, content_sha256, what=what)
    found = side_files(file.path, file.kind)
    if new := [path.name for path in found if path not in dict(file.side_files)]:
        raise ChangedFileError(
            f"{what}: {new[0]} was added after the plan was made: run the same command again to "
            "plan with it, or remove it"
        )
    return loaded


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
