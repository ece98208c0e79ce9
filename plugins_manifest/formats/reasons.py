"""Reason codes: why a file is refused, and why a module of it is not applied as it should be.

All codes of header checks, the parser, inspections and load audits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# The file itself is refused: nothing of it is loaded.
UNSAFE: Mapping[str, str] = MappingProxyType(
    {
        "empty": "the file has no bytes",
        "truncated": "the file ends before its content does; fetch it again",
        "html": "this is a web page, not weights: a login or error page was saved under this name",
        "json": "this is a JSON text, not weights: a server's error was saved under this name",
        "lfs-pointer": "this is a Git LFS pointer, not the file it points to; fetch the real file",
        "zip": "this is a zip archive; unpack it and give the file inside",
        "archive": "this is an archive or compressed file; unpack it and give the file inside",
        "tar": "this is a tar archive (an old torch format, or a package); convert it",
        "torch-zip": "this is a pickled torch file: opening it could run code",
        "pickle": "this is a pickle: opening it could run code",
        "not-safetensors": "the file is not in the safetensors format",
        "too-large": "the file is larger than any plugin should be",
        "header-too-large": "the header is larger than any plugin needs",
        "header-not-json": "the header is not the JSON that safetensors prescribes",
        "duplicate-key": "the header names something twice",
        "too-many-tensors": "the file has more tensors than any plugin needs",
        "bad-name": "a tensor's name is too long or has characters that do not print",
        "bad-metadata": "the metadata is too large, or not text",
        "unknown-dtype": "a tensor's dtype is not known",
        "bad-shape-header": "a tensor's shape is not one that a plugin can have",
        "bad-offsets": "the tensors overlap, leave holes, or lie outside the file",
        "conversion-failed": "the pickled file could not be converted to safetensors",
    }
)

# The file is safe to read, but not all of it can be applied.
PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "wrong-base": "made for another base model, by the shapes of its tensors",
        "unmatched-module": "a module of the file is not in the base model",
        "unknown-key": "no format knows what this key is for",
        "missing-part": "a part of the formula is missing",
        "missing-key": "the network lacks a key that it must have",
        "bad-shape": "the parts do not fit each other, or not the parameter they change",
        "bad-dtype": "the tensor holds no floating-point numbers",
        "double-target": "two modules of the file change the same parameter",
        "mixed-formulas": "a module has parts of two formulas",
        "unsupported-kind": "a kind of plugin that cannot be attached",
        "unknown-format": "no format is recognized in the keys",
        "no-tensors": "the file has no tensors",
        "bad-token": "the token of an embedding cannot be used as it is",
        "bad-config": "the settings stored beside the tensors cannot be followed, or are missing",
    }
)

# Known only from the tensors' values, or from the model after attaching.
VALUES: Mapping[str, str] = MappingProxyType(
    {
        "non-finite": "NaN or infinite values",
        "no-change": "all values that matter are zero: attaching changes nothing",
        "inexact": "the model's weights did not change as the file describes",
        "not-applied": "the model's weights did not change although the file changes them",
        "extra-change": "weights of the model changed that the file does not change",
        "partial": "only a part of the file is applied",
    }
)

REASONS: Mapping[str, str] = MappingProxyType({**UNSAFE, **PROBLEMS, **VALUES})
