"""Redact private text: paths, names of the user and the machine, tokens, addresses.

In content (prompts), secrets and paths of the user's home alone are redacted; in technical text
everything that looks private, at the risk of redacting too much.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

GONE = "…"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|CREDENTIAL|PRIVATE")
_MIN_SECRET, _MIN_NAME = 8, 2
_NO_NAMES = {"root", "localhost", "home", "user"}
_TOKEN = re.compile(
    r"\b(?:hf_\w{8,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{16,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{12,}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]+\.[\w-]+)"
)
_NAMED_SECRET = re.compile(
    r"(?i)\b((?:authorization|token|passw\w*|secret|api[_-]?key|access[_-]?key|signature)"
    r"[\"']?\s*[=:]\s*|bearer\s+)(?:bearer\s+)?[\"']?[^\s\"',;&]+"
)
_URL = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*)://([^\s/'\"?#]*)([^\s'\"?#]*)([^\s'\"]*)")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")  # two characters: C: is a drive
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
_LOCAL_NAME = re.compile(
    r"\b[\w-]+(?:\.[\w-]+)*\.(?:local|localdomain|internal|intranet|lan|corp)\b", re.IGNORECASE
)
_QUOTED_PATH = re.compile(r"(['\"])((?:~\w*|\.{1,2})?/[^'\"\n]*|[A-Za-z]:\\[^'\"\n]*)\1")
_PATH = re.compile(r"(?<![\w./:~)-])(?:~\w*|\.{1,2})?(?:/[^\s'\"`<>|:;,(){}\[\]]+)+/?")
_WINDOWS_PATH = re.compile(r"(?:\b[A-Za-z]:|\\)\\[^\s'\"<>|:;,]+")


class Privacy:
    """Redacts what must not leave this machine, and the given words."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._secrets = sorted(_secrets(), key=len, reverse=True)
        homes = "|".join(re.escape(home) for home in _homes())
        self._home = re.compile(rf"(?:{homes})(?![\w-])(?:/[^\s'\",;]*)?") if homes else None
        names = {name for name in {*_names(), *words} if len(name) >= _MIN_NAME}
        joined = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        self._words = re.compile(rf"(?i)(?<![A-Za-z0-9])(?:{joined})(?![A-Za-z0-9])")
        self._has_words = bool(joined)

    def is_private(self, text: str) -> bool:
        """Return whether a name or id, which cannot be changed, contains a secret or home path."""
        return self.content(text) != text

    def content(self, text: str) -> str:
        """Redact a text that people wrote for others: secrets and home folders."""
        for secret in self._secrets:
            text = text.replace(secret, GONE)
        return _TOKEN.sub(GONE, self._home.sub(GONE, text) if self._home else text)

    def technical(self, text: str) -> str:
        """Redact a text of programs; of paths only the file's name is kept."""
        text = _NAMED_SECRET.sub(rf"\1{GONE}", _URL.sub(_public_url, text))
        text = _QUOTED_PATH.sub(lambda found: found[1] + file_name(found[2]) + found[1], text)
        text = _PATH.sub(lambda found: file_name(found[0]), text)
        text = _WINDOWS_PATH.sub(lambda found: file_name(found[0]), text)
        for pattern in (_MAIL, _ADDRESS, _LOCAL_NAME):
            text = pattern.sub(GONE, text)
        text = self.content(text)
        return self._words.sub(GONE, text) if self._has_words else text

    def command(self, line: str) -> str:
        """Redact a command line; paths become file names, its meaning stays."""
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        return shlex.join(self._word(word) for word in words)

    def source(self, text: str) -> str:
        """Redact a plugin's source in a manifest: a file's name, or an address without keys."""
        if _SCHEME.match(text) is None:
            return self.content(file_name(text))
        return self.content(_URL.sub(_public_url, text))

    def _word(self, word: str) -> str:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if "://" not in value:
            value = file_name(value)
        return option + equals + self.technical(value)


def file_name(path: str) -> str:
    """Return the last part of a path of any operating system."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _public_url(found: re.Match[str]) -> str:
    """Return an address without user, password, query and fragment; nothing of a private host."""
    scheme, host, path, _ = found.groups()
    host = host.rpartition("@")[2]
    name = host.partition(":")[0]
    is_place = scheme in ("http", "https")
    if scheme == "file" or (is_place and ("." not in name or _ADDRESS.fullmatch(name))):
        return GONE
    return f"{scheme}://{host}{path}"


def _secrets() -> set[str]:
    """Return the values of environment variables with names of secrets."""
    found = {value for name, value in os.environ.items() if _SECRET_NAME.search(name.upper())}
    return {value for value in found if len(value) >= _MIN_SECRET and not value.startswith("/")}


def _homes() -> set[str]:
    home = str(Path.home())
    return {home, os.path.realpath(home)} if len(home) > 1 else set()


def _names() -> set[str]:
    """Return the names of this machine and its user."""
    node = platform.node()
    found = {node, node.partition(".")[0], Path.home().name}
    with suppress(OSError, KeyError, ImportError):
        found.add(getpass.getuser())
    return {name for name in found if name.lower() not in _NO_NAMES}
