"""`parse`: what a plugin file is, and what each of its keys is for."""

from __future__ import annotations

from plugins_manifest.formats.parsed import Header, ModuleTable, ParsedPlugin, Problem
from plugins_manifest.formats.table import sd15_table
from plugins_manifest.formats.weight_parser import is_weight_plugin, parse_weights


def parse(header: Header, table: ModuleTable | None = None) -> ParsedPlugin:
    """Classify a file by its keys and shapes, and account for every key once.

    `table` is the base model that the plugin shall be attached to, SD1.5's own for None. Never
    raises for a header that `read_header` has let through: what does not fit is in `problems`.
    """
    table = sd15_table() if table is None else table
    if not header.tensors:
        problem = Problem("no-tensors", "the file has no tensors: it is not a plugin")
        return ParsedPlugin("unknown", "unsupported:unknown", "unknown", problems=(problem,))
    if is_weight_plugin(header.tensors.keys()):
        return parse_weights(header, table)
    raise NotImplementedError
