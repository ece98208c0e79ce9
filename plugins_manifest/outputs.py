"""Untrusted text in outputs (prompts, names, errors, file names): one function for each format.

JSON needs none of them: its encoder escapes every character that is not printable ASCII.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata

LONGEST = 200  # characters of a name or of one message of a site
LONGEST_TEXT = 10_000  # characters of a cell or paragraph of a report
_JOINER = "\u2060"  # invisible; words that it separates are not one name or address
# Punctuation without a meaning inside a line of Markdown is left as it is, to be readable.
_PUNCTUATION = str.maketrans({c: f"\\{c}" for c in string.punctuation if c not in ",'.:-;%+=()/"})
_NUMBERS = re.compile(r"[-+]?[\d.]*( ?\[[-+\d., ]*\])?")  # a number with its interval
_BLOCK_START = re.compile(r"^([-+=]|\d{1,9}[.)](?=\s|$))")
# Turned into links, mentions or pictures after the escapes are resolved, so escapes do not help.
_REPLACED_LATER = re.compile(
    r"(?i)(?:https?|ftps?|mailto|xmpp):|www(?=\.)|\\@|\\#(?=\w)|\bgh-(?=\d)|(?<!\w):(?=[\w+\\-]+:)"
)
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # and their full-width forms
_PLAIN_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "{}$&#%_"},
        "\\": "\\textbackslash{}",
        "^": "\\textasciicircum{}",
        "~": "\\textasciitilde{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}",
        '"': "{\\char34}",
    }
)
_LIGATURE = re.compile(r"(?<=[-`',!?])(?=[-`',])")  # two hyphens are a dash, and so on
_LONGEST_FILE_NAME = 60  # characters, of up to four bytes
_FILE_NAME = re.compile(rf"\w[\w.+-]{{0,{_LONGEST_FILE_NAME - 1}}}")
_NOT_IN_FILE_NAME = re.compile(r"[^\w.+-]")


def one_line(text: object, *, longest: int = LONGEST) -> str:
    """Return text on one line, cut to `longest`; control characters and directions are spaces."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(printable.split())[:longest]


def terminal(text: object) -> str:
    """Return text for a terminal or log: line ends and tabs stay, other controls are escaped.

    Escaped are terminal codes, marks of text direction and halves of surrogate pairs.
    """
    return _visible(str(text), kept="\n\t")


def terminal_line(text: object) -> str:
    """Return text for a part of a line on a terminal: line ends and tabs are escaped too."""
    return _visible(str(text), kept="")


def escaped_line(text: object, *, longest: int = LONGEST) -> str:
    """Return text on one line with controls and HTML brackets as escapes, cut at `longest`."""
    whole = str(text)
    cut = "".join(_escaped(c) if c in "<>&" or not c.isprintable() else c for c in whole[:longest])
    return cut if len(whole) <= longest else f"{cut}... ({len(whole)} characters)"


def markdown(text: object, *, longest: int = LONGEST_TEXT) -> str:
    """Return text that Markdown displays literally, on one line, in any place of a document."""
    line = one_line(text, longest=longest)
    if _NUMBERS.fullmatch(line):
        return line
    line = _BLOCK_START.sub(_escaped_start, line.translate(_PUNCTUATION))
    return _REPLACED_LATER.sub(lambda found: found[0] + _JOINER, line)


def latex(text: object, *, longest: int = LONGEST_TEXT) -> str:
    """Return text that LaTeX prints literally, on one line, in any place of a text or table.

    Letters beyond ASCII are kept: for other scripts it takes XeLaTeX or LuaLaTeX.
    """
    line = _LIGATURE.sub("{}", one_line(text, longest=longest).translate(_LATEX))
    # after a line's end, [ and * would begin an argument
    return f"{{{line[0]}}}{line[1:]}" if line.startswith(("[", "*")) else line


def html_text(text: object) -> str:
    """Return text for an HTML template, which escapes the markup; controls are spaces."""
    return "".join(c if _is_visible(c) else " " for c in str(text))


def xml_text(text: object) -> str:
    """Return text with only characters of XML 1.0; its writer escapes the markup."""
    return "".join(c if _is_visible(c) or c in "\n\t" else "\ufffd" for c in str(text))


def csv_cell(value: object) -> object:
    """Return a cell of a CSV file: text that a spreadsheet would run as a formula begins with '."""
    if not isinstance(value, str):
        return value
    line = "".join(c if c.isprintable() else " " for c in value)
    is_formula = value.lstrip(" \0").startswith(_FORMULA) or line.lstrip().startswith(_FORMULA)
    return f"'{line}" if is_formula and not _PLAIN_NUMBER.fullmatch(value) else line


def file_name(text: str) -> str:
    """Return text as a part of a file's name; a text that cannot be one gets a digest instead."""
    if _FILE_NAME.fullmatch(text):
        return text
    plain = _NOT_IN_FILE_NAME.sub("_", text[:_LONGEST_FILE_NAME])
    return f"_{plain}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _visible(text: str, *, kept: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c in kept or _is_visible(c) else _escaped(c) for c in text)


def _is_visible(character: str) -> bool:
    """Return whether a character is printable, or a space of any width."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    if character in "<>&":
        return f"\\u{ord(character):04x}"
    return character.encode("unicode_escape").decode("ascii")


def _escaped_start(found: re.Match[str]) -> str:
    """Escape what would begin a list, or underline a heading, at the start of a line."""
    return f"{found[0][:-1]}\\{found[0][-1]}"
