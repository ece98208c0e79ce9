"""Show HTML that templates of `bench.site` made, with its style and script."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import streamlit as st
from markupsafe import Markup, escape
from streamlit.components import v2

from bench.site import asset
from leaderboard.ui.address import site_address

# Streamlit's own frame: a bar of 48 px, less air above the page, chosen values in white on the
# primary color, which is bright on a dark background
_FRAME = """
[data-testid=stHeader] { height: 48px; min-height: 48px; }
[data-testid=stMainBlockContainer] { padding-top: 56px; padding-bottom: 3rem; max-width: 88rem; }
[data-testid=stHeader] [data-testid=stToolbar]::before { content: "xbench";
  font-weight: 700; padding: 0 .8rem; }
@media (min-width: 64rem) {
  .st-key-bar { position: fixed; top: 4px; right: 4.5rem; width: 44rem; max-width: 48vw;
    z-index: 999991; }
}
[data-testid=stApp] .xb { --paper: light-dark(#ffffff, #171614);
  --raised: light-dark(#f6f8fa, #22211e); --line: light-dark(#d0d7de, #3b3935); }
[data-testid=stExpandSidebarButton]::after { content: "Pages"; padding-left: .3rem; }
[data-testid=stMultiSelectTagsContainer] [data-tag] * { color: light-dark(#fff, #111318); }
"""
# the pages change without a reload: what appears later is completed too
_WATCH = """
export default function() {
  enhancePictures();
  const observer = new MutationObserver(() => enhancePictures());
  observer.observe(document.body, { childList: true, subtree: true });
  return () => observer.disconnect();
}
"""


def show_style() -> None:
    """Write the style of fragments into the page."""
    st.html(f"<style>{_style()}</style>")


def show_fragment(*parts: str) -> None:
    """Write HTML of templates, which escape every text of others."""
    st.html(f'<div class="xb">{"".join(parts)}</div>')


def show_links(title: str, links: Mapping[str, str]) -> None:
    """Write links by their texts."""
    link = Markup('<a href="{}">{}</a>')
    listed = " ".join(link.format(href, text) for text, href in links.items())
    show_fragment(f'<p class="files">{escape(title)} {listed}</p>')


def run_links(run: str, plugin: str | None = None) -> dict[str, str]:
    """Return the pages that are not in the navigation, of a run and a plugin."""
    query = {"run": run} if plugin is None else {"run": run, "plugin": plugin}
    pages = {"Trade-off": "tradeoff", "Metrics over t0": "t0"}
    found = {text: site_address(path, **query) for text, path in pages.items()}
    return {**found, "Provenance": site_address("provenance", run=run)}


def enhance_fragments() -> None:
    """Add viewer, slider and copy buttons to the fragments of the page."""
    _component()(key="fragments", height=1)


@cache
def _style() -> str:
    return asset("parts.css").decode() + _FRAME


@cache
def _component() -> Any:
    script = asset("pictures.js").decode() + _WATCH
    return v2.component("xbench_fragments", html="<span></span>", js=script, isolate_styles=False)
