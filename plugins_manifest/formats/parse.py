"""`parse`: what a plugin file is, and what each of its keys is for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from plugins_manifest.formats import (
    controlnet,
    embeddings,
    ip_adapter,
    t2i_adapter,
    unsupported,
    weight_parser,
)
from plugins_manifest.formats.parsed import (
    FileParser,
    Header,
    ModuleTable,
    ParsedPlugin,
    Problem,
)
from plugins_manifest.formats.table import sd15_table

# In this order: an IP-Adapter FaceID also has a LoRA's keys, a ControlNet has a LoRA's suffixes.
PARSERS: tuple[FileParser, ...] = (
    unsupported.FIRST,
    ip_adapter.PARSER,
    weight_parser.PARSER,
    controlnet.PARSER,
    t2i_adapter.PARSER,
    embeddings.PARSER,
    unsupported.LAST,
    unsupported.REST,
)
LAYOUTS: Mapping[str, str] = MappingProxyType(
    {layout: keys for parser in PARSERS for layout, keys in parser.layouts.items()}
)


def parse(header: Header, table: ModuleTable | None = None) -> ParsedPlugin:
    """Classify a file by its keys and shapes, and account for every key once.

    `table` is the base model that the plugin shall be attached to, SD1.5's own for None. Never
    raises for a header that `read_header` accepts: what does not fit is in `problems`.
    """
    table = sd15_table() if table is None else table
    if not header.tensors:
        problem = Problem("no-tensors", "the file has no tensors: it is not a plugin")
        return ParsedPlugin("unknown", "unsupported:unknown", "unknown", problems=(problem,))
    return parser_of(header, table).parse(header, table)


def parser_of(header: Header, table: ModuleTable) -> FileParser:
    """Return the parser of a file's kind."""
    return next(parser for parser in PARSERS if parser.recognizes(header, table))
