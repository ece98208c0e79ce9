"""Files that are no weights, and files made to harm the reader, the report, or people's eyes."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.plugins_manifest.zoo import sd15
from tests.plugins_manifest.zoo.animal import Animal, Cage
from tests.plugins_manifest.zoo.broken import lora_of
from tests.plugins_manifest.zoo.files import Content, Raw, entry, numbers, pack, with_header
from tests.plugins_manifest.zoo.naming import named
from tests.plugins_manifest.zoo.sd15 import ALL, TO_Q, kohya

_FOUR = b"\0" * 16  # the payload of one 2 x 2 float32


class Payload:
    """What a malicious pickle asks to be called; harmless here, were it ever run."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return print, ("a pickle was executed",)


def _whole() -> bytes:
    return pack(named(ALL, sd15.lora, alpha=2.0))


def torch_zip(content: bytes, *, name: str = "archive/data.pkl", compress: bool = False) -> bytes:
    """Return an archive as torch writes it, around any pickle."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr(name, content)
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("lora.safetensors", _whole())
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("pickle")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"\x80\x02N."))
    return file.getvalue()


def _header(entries: Mapping[str, Any], payload: bytes = _FOUR) -> bytes:
    return with_header(json.dumps(entries), payload)


def _many(n: int) -> bytes:
    return _header({f"t{i}": entry(shape=[0]) for i in range(n)}, b"")


def _many_modules(n: int) -> bytes:
    return pack(lora_of({f"lora_unet_nowhere_blocks_{i}": (1, 1) for i in range(n)}, rank=1))


def _metadata(values: Mapping[str, Any]) -> bytes:
    return pack(named(ALL, sd15.lora, alpha=2.0), values)


def _dirty() -> bytes:
    return _metadata(
        {
            "ss_output_name": "\x1b[2J\x1b]0;owned\x07\u202egnp.exe",
            "modelspec.title": "<script>alert(1)</script><img src=x onerror=alert(2)>",
            "ss_training_comment": "=cmd|'/c calc'!A1 \x00 line\nVerdict: ok",
            "\x1b[31mname": "red",
        }
    )


def _polyglot() -> bytes:
    return with_header(json.dumps({"a": entry()}), _FOUR + _zip())


def _bundle(*tokens: str) -> Content:
    content: dict[str, np.ndarray] = dict(named(ALL, sd15.lora))
    for token in tokens:
        content[f"bundle_emb.{token}.string_to_param.*"] = numbers(1, 768)
    return content


def _traversal() -> Content:
    names = {"../../../etc/cron.d/x": (4, 4), "C:\\Windows\\x": (4, 4), "/dev/mem": (4, 4)}
    return lora_of(names)


def _animal(
    name: str,
    says: str,
    make: Callable[[], bytes],
    reason: str,
    *,
    cage: Cage = "hostile",
    verdict: str = "broken",
    suffix: str = ".safetensors",
    format: str | None = None,
    diffusers: str = "",
) -> Animal:
    return Animal(
        name=name,
        says=says,
        make=make,
        cage=cage,
        verdict=verdict,
        reasons=frozenset({reason}) if reason else frozenset(),
        suffix=suffix,
        format=format,
        diffusers=diffusers,
    )


def _served(name: str, says: str, content: bytes, reason: str | None = None) -> Animal:
    hides = "hides the reason"
    return _animal(name, says, lambda: content, reason or name, cage="not-weights", diffusers=hides)


_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"

NOT_WEIGHTS = (
    _served("empty", "no bytes", b""),
    _served("html", "a login page", b"<!DOCTYPE html><html><title>Sign in</title></html>"),
    _served("html-bom", "a page behind a byte order mark", b"\xef\xbb\xbf \n<HTML></HTML>", "html"),
    _served("json", "an error of a server", b'{"error":"Unauthorized","message":"token"}'),
    _served("lfs-pointer", "a Git LFS pointer", _LFS),
    _served("zip", "a pack of LoRAs", _zip()),
    _animal(
        "tar",
        "a tar archive (or torch's first format)",
        _tar,
        "tar",
        cage="not-weights",
        verdict="unsafe",
    ),
    _served("gzip", "a compressed file", gzip.compress(b"x" * 64, mtime=0), "archive"),
    _served("text", "a text", b"not a model at all, sorry\n" * 10, "not-safetensors"),
    _animal(
        "truncated",
        "half of a file",
        lambda: _whole()[: len(_whole()) // 2],
        "truncated",
        cage="not-weights",
    ),
    _animal(
        "truncated-header",
        "a file that ends in its header",
        lambda: _whole()[:100],
        "truncated",
        cage="not-weights",
    ),
    _animal(
        "seven-bytes",
        "less than a header's length",
        lambda: b"\x10\0\0\0\0\0\0",
        "truncated",
        cage="not-weights",
    ),
    _animal(
        "no-tensors",
        "a header and nothing else",
        lambda: pack({}, {"a": "b"}),
        "no-tensors",
        cage="not-weights",
    ),
)

HOSTILE = (
    _animal(
        "torch-zip",
        "a pickled torch file",
        lambda: torch_zip(pickle.dumps(Payload(), 2)),
        "torch-zip",
        verdict="unsafe",
        suffix=".pt",
        diffusers="refuses, hides the reason",
    ),
    _animal(
        "pickle",
        "a bare pickle",
        lambda: pickle.dumps(Payload(), 2),
        "pickle",
        verdict="unsafe",
        suffix=".pt",
    ),
    _animal(
        "pickle-renamed",
        "a pickle named .safetensors",
        lambda: pickle.dumps(Payload(), 4),
        "pickle",
        verdict="unsafe",
    ),
    _animal(
        "pickle-text",
        "a pickle of protocol 0",
        lambda: pickle.dumps(Payload(), 0),
        "pickle",
        verdict="unsafe",
        suffix=".bin",
    ),
    _animal(
        "huge-header",
        "a header of 4 GiB is announced",
        lambda: with_header('{"a":', declared=2**32),
        "truncated",
    ),
    _animal(
        "large-header",
        "a header of 18 MiB",
        lambda: with_header("{" + " " * (18 * 2**20) + "}"),
        "header-too-large",
    ),
    _animal(
        "overlap",
        "two tensors share bytes",
        lambda: _header({"a": entry(), "b": entry()}),
        "bad-offsets",
    ),
    _animal(
        "hole",
        "bytes between two tensors",
        lambda: _header({"a": entry(), "b": entry(offsets=[20, 36])}, b"\0" * 36),
        "bad-offsets",
    ),
    _animal(
        "trailing",
        "bytes after the last tensor",
        lambda: _header({"a": entry()}, _FOUR * 2),
        "bad-offsets",
    ),
    _animal("polyglot", "a zip archive behind the tensors", _polyglot, "bad-offsets"),
    _animal(
        "out-of-bounds",
        "offsets behind the end",
        lambda: _header({"a": entry(shape=[2, 2000])}),
        "truncated",
    ),
    _animal(
        "negative-offset",
        "an offset below zero",
        lambda: _header({"a": entry(offsets=[-16, 0])}),
        "bad-offsets",
    ),
    _animal(
        "wrong-size",
        "shape and bytes do not agree",
        lambda: _header({"a": entry(shape=[3, 3], offsets=[0, 16])}),
        "bad-offsets",
    ),
    _animal(
        "huge-shape",
        "a shape of [0, 2^40]",
        lambda: _header({"a": entry(shape=[0, 2**40], offsets=[0, 0])}, b""),
        "bad-shape-header",
        diffusers="the safetensors library accepts it",
    ),
    _animal(
        "float-shape",
        "a shape of 2.0",
        lambda: _header({"a": entry(shape=[2.0, 2.0], offsets=[0, 16])}),
        "bad-shape-header",
    ),
    _animal(
        "boolean-shape",
        "a shape of true",
        lambda: _header({"a": entry(shape=[True], offsets=[0, 4])}),
        "bad-shape-header",
    ),
    _animal(
        "many-sides",
        "a tensor of 40 dimensions",
        lambda: _header({"a": entry(shape=[1] * 40, offsets=[0, 4])}, b"\0" * 4),
        "bad-shape-header",
    ),
    _animal(
        "unknown-dtype",
        "a dtype that is none",
        lambda: _header({"a": entry("Q4")}),
        "unknown-dtype",
    ),
    _animal(
        "many-tensors",
        "21,000 empty tensors",
        lambda: _many(21_000),
        "too-many-tensors",
        diffusers="the safetensors library accepts it",
    ),
    _animal(
        "many-modules",
        "4,000 modules of no model",
        lambda: _many_modules(4_000),
        "unmatched-module",
        format="kohya",
    ),
    _animal(
        "duplicate-key",
        "one name for two tensors",
        lambda: with_header(f'{{"a":{json.dumps(entry())},"a":{json.dumps(entry())}}}', _FOUR),
        "duplicate-key",
    ),
    _animal(
        "duplicate-field",
        "one field twice",
        lambda: with_header(
            '{"a":{"dtype":"F32","dtype":"F16","shape":[2,2],"data_offsets":[0,16]}}', _FOUR
        ),
        "duplicate-key",
    ),
    _animal(
        "duplicate-metadata",
        "metadata twice",
        lambda: with_header('{"__metadata__":{},"__metadata__":{}}'),
        "duplicate-key",
    ),
    _animal(
        "extra-field",
        "a tensor with one field more",
        lambda: _header({"a": entry() | {"run": "me"}}),
        "header-not-json",
    ),
    _animal(
        "nested",
        "100,000 brackets",
        lambda: with_header('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "header-not-json",
    ),
    _animal(
        "nested-metadata",
        "objects in the metadata",
        lambda: with_header('{"__metadata__":{"a":' + '{"b":' * 5_000 + "1" + "}" * 5_002),
        "bad-metadata",
    ),
    _animal(
        "number-metadata",
        "a number in the metadata",
        lambda: _header({"__metadata__": {"a": 1}, "b": entry()}),
        "bad-metadata",
    ),
    _animal(
        "many-metadata",
        "5,000 entries of metadata",
        lambda: _metadata({f"k{i}": "v" for i in range(5_000)}),
        "bad-metadata",
    ),
    _animal(
        "nan-header",
        "NaN as a side",
        lambda: with_header('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,0]}}'),
        "header-not-json",
    ),
    _animal(
        "huge-number",
        "a side of 5,000 digits",
        lambda: with_header(
            '{"a":{"dtype":"F32","shape":[' + "9" * 900 + '],"data_offsets":[0,0]}}'
        ),
        "bad-shape-header",
    ),
    _animal(
        "not-utf8",
        "a header that is no UTF-8",
        lambda: with_header(b'{"\xff\xfe":{}}'),
        "header-not-json",
    ),
    _animal(
        "long-name",
        "a name of 10,000 letters",
        lambda: _header({"a" * 10_000: entry()}),
        "bad-name",
    ),
    _animal(
        "control-name",
        "terminal codes in a name",
        lambda: _header({"\x1b[2Jlora": entry()}),
        "bad-name",
    ),
    _animal(
        "bidi-name",
        "a name that prints backwards",
        lambda: _header({"lora\u202egnp": entry()}),
        "bad-name",
    ),
    _animal(
        "surrogate-name",
        "half a character in a name",
        lambda: with_header('{"\\ud800":' + json.dumps(entry()) + "}", _FOUR),
        "header-not-json",
    ),
    _animal(
        "surrogate-metadata",
        "half a character in the metadata",
        lambda: with_header('{"__metadata__":{"a":"\\ud800"}}'),
        "header-not-json",
    ),
    _animal(
        "traversal",
        "paths as module names",
        lambda: pack(_traversal()),
        "unmatched-module",
        format="kohya",
    ),
    _animal(
        "dirty-metadata",
        "terminal codes, HTML, formulas and false lines in the metadata",
        _dirty,
        "",
        verdict="ok",
        format="kohya",
    ),
    _animal(
        "large-metadata",
        "5 MB of metadata",
        lambda: _metadata({"ss_tag_frequency": "x" * 5_000_000}),
        "",
        verdict="ok",
        format="kohya",
    ),
    _animal(
        "settings-bomb",
        "100,000 brackets as PEFT's settings",
        lambda: _metadata({"lora_adapter_metadata": "[" * 100_000}),
        "bad-config",
        verdict="unsupported",
        format="kohya",
    ),
    _animal(
        "token-common",
        "a bundled embedding for the token `the`",
        lambda: pack(_bundle("the")),
        "bad-token",
        verdict="partial",
        format="kohya",
    ),
    _animal(
        "token-twice",
        "two bundled embeddings, one token but for its case",
        lambda: pack(_bundle("zkz_style", "ZKZ_style")),
        "bad-token",
        verdict="partial",
        format="kohya",
    ),
    _animal(
        "token-spaces",
        "a token of several words",
        lambda: pack({"a masterpiece by": numbers(1, 768)}),
        "bad-token",
        verdict="partial",
        format="embedding",
    ),
    _animal(
        "huge-alpha",
        "an infinite alpha",
        lambda: pack(
            dict(named([TO_Q], sd15.lora))
            | {f"{kohya(TO_Q)}.alpha": np.array(np.inf, dtype=np.float32)}
        ),
        "non-finite",
        format="kohya",
    ),
    _animal(
        "fake-offset-bf16",
        "NaN hidden in bfloat16",
        lambda: pack({"emb_params": Raw("BF16", (1, 768), b"\xc0\x7f" * 768)}),
        "non-finite",
        format="embedding-civitai",
    ),
)
