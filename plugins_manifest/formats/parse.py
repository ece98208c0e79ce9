"""`parse`: what a plugin file is, and what each of its keys is for."""

from __future__ import annotations

from plugins_manifest.formats.adapters import (
    is_ip_adapter,
    is_t2i_adapter,
    parse_ip_adapter,
    parse_t2i_adapter,
)
from plugins_manifest.formats.controlnet import is_controlnet, parse_controlnet
from plugins_manifest.formats.embeddings import is_embedding, parse_embedding
from plugins_manifest.formats.parsed import Header, ModuleTable, ParsedPlugin, Problem
from plugins_manifest.formats.table import sd15_table
from plugins_manifest.formats.unsupported import remaining_kind, special_kind
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
    keys = header.tensors.keys()
    special = special_kind(keys)
    if special is not None:
        return special
    if is_ip_adapter(keys):
        return parse_ip_adapter(header, table)
    if is_weight_plugin(keys):
        return parse_weights(header, table)
    return _parse_network(header, table)


def _parse_network(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Files that bring layers or vectors of their own."""
    keys = header.tensors.keys()
    if is_controlnet(keys):
        return parse_controlnet(header, table)
    if is_t2i_adapter(keys):
        return parse_t2i_adapter(header, table)
    if is_embedding(header, table):
        return parse_embedding(header, table)
    return remaining_kind(header, table)
