"""Damage a good file: bits, bytes, lengths, chunks, tokens, and parts of another file."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_LARGE = (*_NUMBERS, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_FORMATS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_GROWTH = 4096  # bytes of one repetition
Mutation = Callable[[Random, bytearray, Sequence[bytes], Sequence[bytes]], bytearray]


def mutated(
    rng: Random,
    seeds: Sequence[bytes],
    *,
    tokens: Sequence[bytes],
    others: Sequence[bytes],
    is_text: bool,
) -> bytes:
    """Return one of the seeds after one to six mutations; parts may come from `others`."""
    data = bytearray(rng.choice(seeds))
    mutations = _TEXT_MUTATIONS if is_text and rng.random() < 0.7 else _MUTATIONS
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = rng.choice(mutations)(rng, data, tokens, others)
    if data.startswith(_PNG) and rng.random() < 0.7:
        return _with_checksums(bytes(data))
    return bytes(data)


def _at(rng: Random, data: Sequence[int]) -> int:
    """Return a position; the first hundred bytes and the last ones are likelier."""
    n = len(data)
    place = rng.random()
    if place < 0.3:
        return rng.randint(0, min(n, 100))
    return max(0, n - rng.randint(0, 100)) if place < 0.5 else rng.randint(0, n)


def _flip(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    at = _at(rng, data)
    if at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    return data


def _overwrite(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    at = _at(rng, data)
    junk = rng.randbytes(rng.randint(1, 8))
    data[at : at + len(junk)] = junk
    return data


def _cut(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    at = _at(rng, data)
    del data[at : at + rng.choice((1, 2, 8, 64, 1000))]
    return data


def _truncate(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    return data[: _at(rng, data)] if rng.random() < 0.5 else data[_at(rng, data) :]


def _repeat(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    at, n = _at(rng, data), rng.choice((1, 4, 16, 64))
    part = data[at : at + n] * rng.choice((2, 3, 50))
    data[at:at] = part[:_MAX_GROWTH]
    return data


def _length(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    kind = rng.choice(_FORMATS)
    size = struct.calcsize(kind)
    at = min(_at(rng, data), max(0, len(data) - size))
    data[at : at + size] = struct.pack(kind, rng.choice(_LARGE) % 256**size)
    return data


def _swap(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    first, second = sorted((_at(rng, data), _at(rng, data)))
    n = min(rng.choice((1, 4, 16, 200)), second - first)
    a, b = data[first : first + n], data[second : second + n]
    data[second : second + n], data[first : first + n] = a, b
    return data


def _splice(rng: Random, data: bytearray, tokens: object, others: Sequence[bytes]) -> bytearray:
    other = rng.choice(others)
    start = rng.randint(0, len(other))
    return data[: _at(rng, data)] + other[start : start + rng.choice((16, 200, 100_000))]


def _token(rng: Random, data: bytearray, tokens: Sequence[bytes], others: object) -> bytearray:
    at, token = _at(rng, data), rng.choice(tokens)
    data[at : at + rng.choice((0, 0, 1, len(token)))] = token
    return data


def _number(rng: Random, data: bytearray, tokens: Sequence[bytes], others: object) -> bytearray:
    """Replace one written number or word."""
    found = list(re.finditer(rb"[\w.+-]+", bytes(data)))
    if not found:
        return data
    match = rng.choice(found)
    data[match.start() : match.end()] = rng.choice((rng.choice(tokens), b"%d" % rng.choice(_LARGE)))
    return data


def _line(rng: Random, data: bytearray, tokens: object, others: object) -> bytearray:
    """Move, double, indent or remove a line."""
    lines = bytes(data).split(b"\n")
    at = rng.randrange(len(lines))
    line = lines.pop(at)
    copies = rng.choice(([], [line, line], [b"  " + line], [line.strip()], [b"- " + line]))
    to = rng.choice((at, rng.randint(0, len(lines))))
    return bytearray(b"\n".join([*lines[:to], *copies, *lines[to:]]))


_MUTATIONS: tuple[Mutation, ...] = (
    *(_flip, _flip, _overwrite, _cut, _truncate, _repeat, _length, _length),
    *(_swap, _splice, _token, _token, _number, _line),
)
_TEXT_MUTATIONS: tuple[Mutation, ...] = (_number, _number, _number, _line, _token, _repeat, _swap)


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG with the right checksum of every chunk, so that a decoder reads on."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        n = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + n > len(data):
            break
        body = data[at + 4 : at + 8 + n]
        out += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + n
    return bytes(out + data[at:])
