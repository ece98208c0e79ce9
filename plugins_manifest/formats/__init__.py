"""Parse plugin files of every format, with numpy alone: what each key is for, what cannot be used.

`read_header` validates an untrusted safetensors file, `parse` accounts for its keys.
"""

from plugins_manifest.formats.header import payload_sha256, read_header
from plugins_manifest.formats.parse import parse
from plugins_manifest.formats.parsed import (
    Header,
    ModuleChange,
    ModuleTable,
    ParsedPlugin,
    Problem,
    UnsafeFile,
)
from plugins_manifest.formats.table import sd15_table

__all__ = [
    "Header",
    "ModuleChange",
    "ModuleTable",
    "ParsedPlugin",
    "Problem",
    "UnsafeFile",
    "parse",
    "payload_sha256",
    "read_header",
    "sd15_table",
]
