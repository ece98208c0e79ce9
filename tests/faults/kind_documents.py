"""Documents that are bombs, ambiguous, damaged, or not files at all, for every reader."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from bench.gate.policy import load_policy
from bench.store.documents import read_json, read_yaml
from plugins_manifest.cases import file_cases
from plugins_manifest.lock import read_lock
from plugins_manifest.schema import load_manifest
from plugins_manifest.schema.manifest import FileCases
from tests.faults.base import Fault, Kind, refuses
from tests.fuzz.kinds import FUZZ_KINDS, FuzzKind, Target, check

_LAUGHS = b"a: &a [x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (c + 1, c + 1, b", ".join([b"*%c" % c] * 9)) for c in b"abcdefghij"
)
_CHAIN = b"b0: &b0 [x]\n" + b"".join(
    b"b%d: &b%d [[[[*b%d]]]]\n" % (i, i, i - 1) for i in range(1, 100)
)
# name -> content that no reader accepts
_YAML: dict[str, bytes] = {
    "a billion laughs": _LAUGHS,
    "a chain of aliases": _CHAIN,
    "an alias within itself": b"a: &a {b: *a}",
    "an alias of nothing": b"a: *b",
    "2,000 aliases": b"a: &a x\nb: [" + b"*a, " * 2000 + b"]",
    "merges of merges": b"a: &a {x: 1}\n"
    + b"".join(b"m%d: &m%d {<<: [%s]}\n" % (i, i, b"*a, " * 500) for i in range(30)),
    "brackets": b"[" * 200_000,
    "braces": b"{a: " * 200_000,
    "dashes": b"- " * 200_000,
    "questions": b"? " * 200_000,
    "500,000 items": b"[" + b"1," * 500_000 + b"]",
    "17 MB": b"a: " + b"x" * (17 << 20),
    "a doubled key": b"schema: 1\nschema: 1\n",
    "a doubled inner key": b"a: {b: 1, b: 2}",
    "a number as key": b"1: 2",
    "a list as key": b"? [a, b]\n: 1",
    "a python object": b"!!python/object/apply:os.system [touch was-run]",
    "a python name": b"a: !!python/name:os.system",
    "a timestamp by tag": b"a: !!timestamp 2024-01-01",
    "binary by tag": b"a: !!binary aGVsbG8=",
    "an unknown tag": b"a: !strange 1",
    "infinity": b"a: .inf",
    "not a number": b"a: .NaN",
    "a number too large": b"a: 1.0e+999",
    "an integer of 5,000 digits": b"a: " + b"9" * 5000,
    "two documents": b"a: 1\n---\nb: 2",
    "NUL": b"a: \x00",
    "NUL, escaped": b'a: "\\0"',
    "half a character": b'a: "\\ud800"',
    "a control character": b"a: \x1b[31m",
    "UTF-16": "a: 1".encode("utf-16"),
    "UTF-32": "a: 1".encode("utf-32"),
    "Latin-1": "a: é".encode("latin-1"),
    "a truncated character": "a: é".encode()[:-1],
    "an open quote": b"a: 'x\nb: 2",
    "a tab": b"a:\n\tb: 1",
    "a long key": b"x" * 2000 + b": " + b"y" * 10 + b"\n: z",
    "a directive": b"%YAML 9.9\n%TAG ! !\n---\n!x y",
}
_JSON: dict[str, bytes] = {
    "brackets": b"[" * 200_000,
    "braces": b'{"a":' * 200_000,
    "1.5 million lists": b"[" + b"[]," * 1_500_000 + b"1]",
    "17 MB": b'["' + b"x" * (17 << 20) + b'"]',
    "a doubled key": b'{"format": 1, "format": 2}',
    "a doubled key, escaped": b'{"a": 1, "\\u0061": 2}',
    "a doubled inner key": b'{"a": [{"b": 1, "b": 2}]}',
    "infinity": b'{"a": Infinity}',
    "not a number": b'{"a": NaN}',
    "a number too large": b'{"a": 1e999}',
    "an integer of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "NUL, escaped": b'{"a": "\\u0000"}',
    "half a character": b'{"a": "\\udfff"}',
    "a control character": b'{"a": "\x1b"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "Latin-1": '{"a": "é"}'.encode("latin-1"),
    "nothing": b"",
    "truncated": b'{"a": [1, 2',
    "a comma": b"{,}",
    "comments": b"// no\n{}",
    "single quotes": b"{'a': 1}",
    "two values": b"{} {}",
    "quotes without end": b'"' + b'\\"' * 1_000_000,
    "a list": b"[]",
    "a text": b'"run"',
    "null": b"null",
}
_CSV: dict[str, bytes] = {
    "a quote without end": b'prompt\n"a cat\nb\nc\n',
    "a field of 200 kB": b"prompt\n" + b"x" * 200_000,
    "NUL": b"prompt\na\x00b\n",
    "more cells than columns": b"prompt\na,b,c\n",
    "a column twice": b"prompt,prompt\na,b\n",
    "no header": b"",
    "a header alone": b"prompt\n",
    "an unknown column": b"promt\na\n",
    "text after quotes": b'prompt\n"a" cat\n',
    "UTF-16": "prompt\na\n".encode("utf-16"),
    "150,000 rows": b"prompt\n" + b"a\n" * 150_000,
}


# valid for readers of any JSON, and for a cell that is empty
_FINE = {"config": ("a list", "a text", "null"), "stack cell": ("a list", "nothing", "null")}


def _cases(path: Path) -> object:
    return file_cases(FileCases(source="file", path=path.name), folder=path.parent)


# reader of a path, and the name of its file
_BY_PATH: dict[str, tuple[str, Callable[[Path], object]]] = {
    "manifest": ("m.yaml", load_manifest),
    "policy": ("p.yaml", load_policy),
    "lock": ("m.lock.yaml", read_lock),
    "YAML cases": ("c.yaml", _cases),
    "JSON cases": ("c.json", _cases),
    "CSV cases": ("c.csv", _cases),
    "any YAML": ("x.yaml", read_yaml),
    "any JSON": ("x.json", read_json),
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


_NO_FILES = {"a FIFO": _fifo, "a loop": _loop, "a folder": _folder, "a device": _device}


def _refuse_content(folder: Path, *, target: Target, content: bytes) -> None:
    started = time.monotonic()
    refuses(lambda: target.reader(content, folder))
    assert time.monotonic() - started < 9
    assert not (folder / "was-run").exists() and not Path("was-run").exists()


def _refuse_path(folder: Path, *, reader: str, make: Callable[[Path], None]) -> None:
    name, read = _BY_PATH[reader]
    make(folder / name)
    if make is _loop and reader == "lock":
        assert read(folder / name) is None  # as if there were none
    else:
        refuses(lambda: read(folder / name))


def _read_damaged(folder: Path, *, kind: FuzzKind, seed: int) -> None:
    check(kind, seed, folder)  # raises whatever is not a UserError


def _kind(name: str) -> FuzzKind:
    return next(kind for kind in FUZZ_KINDS if kind.name == name)


def _named() -> Iterator[Fault]:
    for name, contents in (("yaml", _YAML), ("json", _JSON), ("csv", _CSV)):
        for target in _kind(name).targets():
            if target.name == "peft settings":  # what is malformed there is a problem, no error
                continue
            for what, content in contents.items():
                if what in _FINE.get(target.name, ()):
                    continue
                make = partial(_refuse_content, target=target, content=content)
                yield Fault(f"{name} {target.name}: {what}", make)
    for reader in _BY_PATH:
        for what, make_path in _NO_FILES.items():
            yield Fault(f"{reader}: {what}", partial(_refuse_path, reader=reader, make=make_path))


def _faults(rng: Random) -> Iterator[Fault]:
    named = list(_named())
    rng.shuffle(named)
    yield from named
    while True:
        kind, seed = _kind(rng.choice(("yaml", "json", "csv"))), rng.getrandbits(40)
        yield Fault(f"damaged {kind.name} {seed}", partial(_read_damaged, kind=kind, seed=seed))


KIND = Kind(
    "documents",
    "C messages",
    "a document is read as it is or refused with its line",
    _faults,
    500,
    sample=12,
)
