"""Plugins by kind: loaded, attached together for a while, and gone without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from plugins_manifest.errors import UserError, unknown_name
from runners.audit import PluginNotAppliedError
from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.attachment import Attachment, LoadedPlugin
from runners.plugins.controlnet import load_controlnet
from runners.plugins.ip_adapter import load_ip_adapter
from runners.plugins.t2i_adapter import load_t2i
from runners.plugins.textual_inversion import load_textual_inversion
from runners.plugins.weights import load_weight_plugin

Loader = Callable[[PluginFile, Family], LoadedPlugin]

LOADERS: dict[str, Loader] = {
    "lora": load_weight_plugin,
    "lycoris": load_weight_plugin,
    "controlnet": load_controlnet,
    "t2i-adapter": load_t2i,
    "ip-adapter": load_ip_adapter,
    "textual-inversion": load_textual_inversion,
}


def load_plugin(file: PluginFile, family: Family) -> LoadedPlugin:
    """Read a plugin and check it against the family; `t2i_adapter` and `t2i-adapter` are one kind.

    Raises `UserError` for a kind that cannot be rendered and for a file that does not fit.
    """
    kind = file.kind.replace("_", "-")
    if kind not in LOADERS:
        raise UserError(f"plugin {file.plugin_id!r}: {unknown_name('kind', kind, LOADERS)}")
    try:
        return LOADERS[kind](file, family)
    except PluginNotAppliedError as error:
        error.plugin_id = file.plugin_id
        raise


@contextmanager
def attach_all(
    plugins: Sequence[LoadedPlugin], family: Family, strengths: Sequence[float]
) -> Iterator[Attachment]:
    """Attach plugins in order, each at its strength; afterwards every weight is as before."""
    merged = Attachment()
    with ExitStack() as stack:
        for plugin, strength in zip(plugins, strengths, strict=True):
            merged = merged.joined(stack.enter_context(plugin.attached(family, strength=strength)))
        yield merged
