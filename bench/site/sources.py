"""The web page of a plugin's source."""

from __future__ import annotations

import re

_CIVITAI = re.compile(r"urn:air:[a-z0-9]+:[a-z]+:civitai:(\d+)(?:@(\d+))?")
_HUB = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w.-]+))?(?:/.*)?")
_WEB = re.compile(r"https://[A-Za-z0-9.-]+(?::\d+)?(?:/[!-;=?-~]*)?")


def source_page(source: object) -> str | None:
    """Return a source's web page: an https address on the host of the source, or None."""
    if not isinstance(source, str):
        return None
    if found := _CIVITAI.fullmatch(source):
        version = f"?modelVersionId={found[2]}" if found[2] else ""
        return f"https://civitai.com/models/{found[1]}{version}"
    if found := _HUB.fullmatch(source):
        return f"https://huggingface.co/{found[1]}" + (f"/tree/{found[2]}" if found[2] else "")
    return source if _WEB.fullmatch(source) else None
