"""Read YAML and JSON of unknown origin: bounded, unambiguous, every error with its line.

A document is refused rather than guessed at: bytes, depth and values are counted before objects are
made, a key that comes twice is an error, and so are NaN, infinity and integers beyond 64 bits.
Untagged YAML scalars are text unless YAML 1.1 and 1.2 agree on them: `true`, `false`, `null`, `~`,
decimal integers and decimal fractions. So `no`, `on`, `010`, `1_000`, `1:30` and `2024-01-01` stay
text. Whatever PyYAML writes is read back as it was.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import yaml

from plugins_manifest.errors import UserError
from plugins_manifest.text import first_line

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
MAX_JSON_VALUES = 4_000_000
MAX_YAML_VALUES = 400_000  # aliases expanded
MAX_ALIASES = 1_000
_LARGEST = 2**64 - 1
_LONGEST_INTEGER = len(str(_LARGEST)) + 1
_LONGEST_SHOWN = 40  # characters of a value in a message
_MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe\0\0": "UTF-32",
}

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: its data, the line of every key and item, and problems with lines.

    `problems` are keys that come twice or are not text; `data` is without them.
    """

    data: Any
    lines: Mapping[Place, int]
    problems: tuple[tuple[int, str], ...]


def read_yaml(path: Path, *, name: str | None = None) -> Any:
    """Return the data of a YAML file; `UserError` with file and line for anything unclear."""
    name = name or path.name
    return parse_yaml(read_content(path, name=name), name=name)


def read_json(path: Path, *, name: str | None = None, most_bytes: int = MAX_BYTES) -> Any:
    """Return the data of a JSON file; `UserError` with file and line for anything unclear."""
    name = name or path.name
    content = read_content(path, name=name, most_bytes=most_bytes)
    return parse_json(content, name=name, most_bytes=most_bytes)


def read_text(path: Path, *, name: str | None = None, most_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file in UTF-8, without its byte order mark; `UserError` otherwise."""
    name = name or path.name
    text = _decoded(read_content(path, name=name, most_bytes=most_bytes), name, most_bytes)
    if "\0" in text:
        raise UserError(f"{name}:{_line(text, text.index(chr(0)))}: the character NUL: remove it")
    return text


def read_content(path: Path, *, name: str, most_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file of at most `most_bytes`; `UserError` otherwise."""
    try:
        # a FIFO without a writer would wait for ever
        flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, os.O_RDONLY | flags)
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UserError(f"{name} cannot be read: it is not a file: check the path")
            content = stream.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{name} cannot be read: {reason}: check the path") from error
    if len(content) > most_bytes:
        raise UserError(
            f"{name} has more than {most_bytes:,} bytes, the most that are read: check that it is "
            "the right file, or split it"
        )
    return content


def parse_json(
    content: bytes | str, *, name: str, most_bytes: int = MAX_BYTES, starts_at: int = 1
) -> Any:
    """Return the data of JSON text; `name` is the file's name in messages, `starts_at` its line."""
    text = _decoded(content, name, most_bytes, starts_at)
    _refuse_large_json(text, name)
    try:
        data = _JSON.decode(text)
    except _RefusedJsonError as error:
        line = error.line_in(text) + starts_at - 1
        raise UserError(f"{name}:{line}: {error}") from None
    except json.JSONDecodeError as error:
        line = error.lineno + starts_at - 1
        where = f"{name}:{line}: not valid JSON at column {error.colno}"
        raise UserError(f"{where}: {error.msg}") from None
    if _ESCAPED_HALVES.search(text):
        for value in _texts(data):
            if problem := _text_problem(value):
                raise UserError(f"{name}: {problem} ({_shown(value)}): remove it")
    return data


def parse_json_lines(content: str, *, name: str) -> Document:
    """Return the data of JSON text with the line of each item of its top-level list."""
    data = parse_json(content, name=name)
    lines: dict[Place, int] = {}
    if isinstance(data, list):
        depth, line, at, is_next = 0, 1, 0, False
        for token in _TOKEN.finditer(content):
            if is_next and token[0] != "]":
                line += content.count("\n", at, token.start())
                at = token.start()
                lines[len(lines),] = line
            depth += _STEPS.get(token[0], 0)
            is_next = depth == 1 and token[0] in ("[", ",")
    return Document(data, lines, ())


def parse_yaml(content: bytes | str, *, name: str) -> Any:
    """Return the data of YAML text; `name` is the file's name in messages."""
    document = parse_yaml_lines(content, name=name)
    if document.problems:
        problems = sorted(document.problems)
        raise UserError.collect([f"{name}:{line}: {text}" for line, text in problems])
    return document.data


def parse_yaml_lines(content: bytes | str, *, name: str) -> Document:
    """Return the data of YAML text with lines; raise `UserError` only where there are no data."""
    text = _decoded(content, name, MAX_BYTES)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _YamlBuilder(yaml.parse(text, Loader=loader), name).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}: not valid YAML at column {mark.column + 1}" if mark else ""
        raise UserError(f"{name}{place}: {error.problem or first_line(error)}") from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        line = text.count("\n", 0, getattr(error, "position", 0) or 0) + 1
        reason = " ".join(str(error).split("\n")[0].split())
        raise UserError(f"{name}:{line}: not valid YAML: {reason}") from None


def _decoded(content: bytes | str, name: str, most_bytes: int, starts_at: int = 1) -> str:
    if len(content) > most_bytes:
        raise UserError(f"{name} has more than {most_bytes:,} bytes, the most that are read")
    if isinstance(content, str):
        if not content.isascii() and (problem := _text_problem(content)):
            raise UserError(f"{name}: {problem}: write the file in UTF-8")
        return content.removeprefix("\ufeff")
    for mark in sorted(_MARKS, key=len, reverse=True):
        if content.startswith(mark):
            raise UserError(f"{name} is in {_MARKS[mark]}: save it in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + starts_at
        raise UserError(f"{name}:{line}: not in UTF-8 ({error.reason}): save it in UTF-8") from None


def _text_problem(text: str) -> str | None:
    """Return why no file, terminal or database takes a text, if so."""
    if "\0" in text:
        return "a text contains the character NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a text contains half a character"
    return None


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


# --- JSON

# A string, closed or not: an unclosed one is matched to its end, so that the search stays linear.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + r"|[\[\]{}:,]|[^\s\[\]{}:,\"]+", re.DOTALL)
_OTHER_THAN_BRACKETS = re.compile(r"[^\[\]{}]+")
_ESCAPED_HALVES = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


class _RefusedJsonError(Exception):
    """A value or key that is valid JSON and refused; `key` or `token` locates it."""

    def __init__(self, message: str, *, token: str = "", key: str | None = None) -> None:
        super().__init__(message)
        self._token, self._key = token, key

    def __str__(self) -> str:
        return super().__str__()

    def line_in(self, text: str) -> int:
        """Return the line of the first token or second key; complete the message of the latter."""
        if self._key is None:
            found = (m.start() for m in _TOKEN.finditer(text) if m[0] == self._token)
            return _line(text, next(found, 0))
        first, second = _positions_of_twin(text, self._key)
        self.args = (_twin(self._key, _line(text, first)),)
        return _line(text, second)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _twin(key: object, first: int) -> str:
    return f"the key {_shown(key)} comes twice: the first is in line {first}, remove one"


def _positions_of_twin(text: str, key: str) -> tuple[int, int]:
    """Return where the first key that an object has twice stands."""
    known: list[dict[str, int]] = [{}]
    last: tuple[str, int] = ("", 0)
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("{", "["):
            known.append({})
        elif token in ("}", "]"):
            known.pop()
        elif token == ":":
            name, at = last
            if name == key and name in known[-1]:
                return known[-1][name], at
            known[-1][name] = at
        elif token.startswith('"'):
            last = (json.loads(token), match.start())
    return 0, 0


def _refuse_large_json(text: str, name: str) -> None:
    """Count depth and values before they are made; commas within strings are not counted."""
    signs = _STRING.sub("", text)
    brackets = _OTHER_THAN_BRACKETS.sub("", signs)
    n_values = signs.count(",") + len(brackets)
    depth = max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
    if depth > MAX_DEPTH or n_values > MAX_JSON_VALUES:
        _refuse_large(name, MAX_JSON_VALUES)


def _refuse_large(name: str, most_values: int) -> NoReturn:
    raise UserError(
        f"{name} is too deep or too large (over {MAX_DEPTH} levels or {most_values:,} values): "
        "check that it is the right file, or split it"
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _RefusedJsonError("", key=twin)
    return found


def _json_number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), -float("inf")):
        _refused_constant(text)
    return value


def _refused_constant(text: str) -> NoReturn:
    raise _RefusedJsonError(f"{_shown(text)} is not a finite number: correct it", token=text)


def _json_integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER or abs(value := int(text)) > _LARGEST:
        raise _RefusedJsonError(_too_large(text), token=text)
    return value


def _too_large(text: str) -> str:
    return f"{_shown(text)} is too large an integer: at most 64 bits are read"


_JSON = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_json_number,
    parse_int=_json_integer,
    parse_constant=_refused_constant,
)


def _texts(data: Any) -> Iterator[str]:
    """Return every key and text of nested data."""
    left = [data]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value


# --- YAML

_PLAIN = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
# as PyYAML: a fraction has a dot, an exponent its sign; the rest stays text
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TEXT_TAG, _MERGE = "tag:yaml.org,2002:str", "<<"


@dataclass
class _Anchored:
    """A value with a name; `n_values` with its aliases expanded, `height` of levels below it."""

    value: Any
    n_values: int
    height: int


@dataclass
class _YamlBuilder:
    """Makes one document from the parser's events, so that nothing is made before it is counted."""

    events: Iterable[Any]
    name: str
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    _anchors: dict[str, _Anchored | None] = field(default_factory=dict)
    _n_values: int = 0
    _n_aliases: int = 0
    _deepest: int = 0

    def document(self) -> Document:
        """Return the only document; an empty file is None."""
        self._next = iter(self.events).__next__
        self._next()  # the stream's start
        data, event = None, self._next()
        if isinstance(event, yaml.DocumentStartEvent):
            data = self._node(self._next(), ())
            self._next()  # its end
            event = self._next()
        if isinstance(event, yaml.DocumentStartEvent):
            self._refuse(event, "a second document begins: write one document a file")
        return Document(data, self.lines, tuple(self.problems))

    def _node(self, event: Any, place: Place) -> Any:
        """Return the value that begins with an event."""
        self._n_values += 1
        if len(place) > MAX_DEPTH or self._n_values > MAX_YAML_VALUES:
            _refuse_large(self.name, MAX_YAML_VALUES)
        self.lines.setdefault(place, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, len(place))
        is_scalar = isinstance(event, yaml.ScalarEvent)
        if event.tag not in (None, "!") and not (is_scalar and event.tag == _TEXT_TAG):
            self._refuse(
                event, f"the tag {_shown(_short_tag(event.tag))} is not supported: remove it"
            )
        before = self._n_values
        outside, self._deepest = self._deepest, len(place)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if is_scalar:
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = list(self._items(place))
        else:
            value = self._mapping(place)
        if event.anchor is not None:
            height, n_values = self._deepest - len(place), self._n_values - before + 1
            self._anchors[event.anchor] = _Anchored(value, n_values, height)
        self._deepest = max(outside, self._deepest)
        return value

    def _items(self, place: Place) -> Iterator[Any]:
        index = 0
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            yield self._node(event, (*place, index))
            index += 1

    def _mapping(self, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            is_merge = isinstance(event, yaml.ScalarEvent) and _is_plain(event, _MERGE)
            key = self._key(event, place)
            if key is None or (*place, key) in self.lines:
                if key is None:
                    problem = "a key is not text: write KEY: VALUE"
                else:
                    problem = _twin(key, self.lines[*place, key])
                self.problems.append((line, problem))
                self._node(self._next(), self._elsewhere(place))
                continue
            self.lines[*place, key] = line
            value = self._node(self._next(), (*place, key))
            if is_merge:
                merged = self._merged(event, value)
            else:
                found[key] = value
        return {**merged, **found}

    def _key(self, event: Any, place: Place) -> str | None:
        """Return a key; None, with its value read, for another one than text."""
        if isinstance(event, yaml.ScalarEvent) and isinstance(key := self._scalar(event), str):
            return key
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, self._elsewhere(place))
        return None

    def _elsewhere(self, place: Place) -> Place:
        """Return a place below another one, of its own, for a value that is left out."""
        return (*place, f"\0{self._n_values}")

    def _merged(self, event: Any, value: Any) -> dict[str, Any]:
        """Return the keys of a merge (`<<`) of one mapping or a list of them; the first wins."""
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            self._refuse(event, "'<<' merges mappings alone: write keys and values")
        return {key: part[key] for part in reversed(parts) for key in part}

    def _alias(self, event: Any, depth: int) -> Any:
        if event.anchor not in self._anchors:
            self._refuse(event, f"the alias {_shown(event.anchor)} has no anchor: add '&' to one")
        known = self._anchors[event.anchor]
        if known is None:
            self._refuse(event, f"the alias {_shown(event.anchor)} is within its own anchor")
        self._n_aliases += 1
        self._n_values += known.n_values
        self._deepest = max(self._deepest, depth + known.height)
        if self._n_aliases > MAX_ALIASES or self._n_values > MAX_YAML_VALUES:
            self._refuse(event, "too many YAML aliases: write the values out")
        if self._deepest > MAX_DEPTH:
            _refuse_large(self.name, MAX_YAML_VALUES)
        return known.value

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if problem := _text_problem(text):
            self._refuse(event, f"{problem}: remove it")
        if not event.implicit[0] or event.tag is not None:  # quoted, a block, or tagged as text
            return text
        if text in _PLAIN:
            return _PLAIN[text]
        if _INTEGER.fullmatch(text):
            if len(text) > _LONGEST_INTEGER or abs(int(text)) > _LARGEST:
                self._refuse(event, _too_large(text))
            return int(text)
        is_infinite = _FLOAT.fullmatch(text) and abs(float(text)) == float("inf")
        if is_infinite or _NOT_FINITE.fullmatch(text):
            self._refuse(event, f"{_shown(text)} is not a finite number: correct it")
        return float(text) if _FLOAT.fullmatch(text) else text

    def _refuse(self, event: Any, message: str) -> NoReturn:
        raise UserError(f"{self.name}:{event.start_mark.line + 1}: {message}")


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


def _is_plain(event: Any, text: str) -> bool:
    return event.implicit[0] and event.value == text
