"""Run pages of the leaderboard with Streamlit's test driver."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
from streamlit.testing.v1 import AppTest

from leaderboard.study.runs import RESULTS_VARIABLE

VIEWS = ("overview", "tradeoff", "handover", "plugin", "compare", "provenance", "about")


def open_view(view: str, results: Path, **chosen: str | list[str]) -> AppTest:
    """Open a page by a link with these choices; it must not fail."""
    # tests restore it with monkeypatch; "" selects the default results
    os.environ[RESULTS_VARIABLE] = str(results) if results.parts else ""
    page = AppTest.from_string(
        f"from leaderboard.views import {view}\n{view}.show()", default_timeout=30
    )
    for key, value in chosen.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception, page.exception[0].value
    return page


def addresses(page: AppTest) -> list[str]:
    """Return the addresses of all pictures in order."""
    return [image.url for element in page.get("image") for image in element.proto.imgs]


def pictures(page: AppTest, what: str) -> list[tuple[str, str]]:
    """Return (run, trial) of all pictures of a kind in order."""
    parts = [urlsplit(url).path.strip("/").split("/") for url in addresses(page)]
    return [(unquote(p[1]), unquote(p[3])) for p in parts if p[0] == "run-image" and p[2] == what]


def texts(page: AppTest) -> str:
    """Return all Markdown texts of the page."""
    elements: list[Any] = [*page.markdown, *page.caption, *page.info, *page.success, *page.warning]
    elements += [*page.error, *page.title, *page.subheader]
    return "\n".join(element.value for element in elements)


def fragments(page: AppTest) -> str:
    """Return the HTML of all fragments of the page."""
    return "\n".join(element.proto.body for element in page.get("html"))


def charts(page: AppTest) -> list[tuple[str, list[pd.DataFrame]]]:
    """Return each chart's alt text and rows, followed by the rows of layers with their own data."""
    found = []
    for element in page.get("vega_lite_chart"):
        (inner,) = json.loads(element.proto.spec)["layer"]
        parts = [part["data"]["values"] for part in (inner, *inner["layer"]) if "data" in part]
        found.append((element.proto.alt, [pd.DataFrame(part) for part in parts]))
    return found
