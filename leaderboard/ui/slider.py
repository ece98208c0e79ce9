"""Slider between two overlaid pictures, for mouse, touch and arrow keys."""

from __future__ import annotations

from functools import cache
from typing import Any

from streamlit.components import v2

_HTML = """
<figure>
  <div class="both"><img class="left"><img class="right"><i class="line"></i></div>
  <input type="range" min="0" max="100" value="50" step="1">
  <figcaption><span class="left-name"></span><span class="right-name"></span></figcaption>
</figure>
"""
_CSS = """
figure { margin: 0; max-width: 640px; font-family: var(--st-font); color: var(--st-text-color); }
.both { position: relative; overflow: hidden; aspect-ratio: 1; border-radius: 8px; }
.both img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain;
  background: var(--st-secondary-background-color); image-rendering: auto; }
.right { clip-path: inset(0 0 0 var(--at, 50%)); }
.line { position: absolute; top: 0; bottom: 0; left: var(--at, 50%); width: 2px;
  margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; }
input { width: 100%; margin: 10px 0 4px; accent-color: var(--st-primary-color); height: 24px; }
figcaption { display: flex; justify-content: space-between; gap: 1em; font-size: 0.875rem; }
.right-name { text-align: right; }
"""
# data is set by `textContent`, `alt` and `src`: nothing of it becomes markup
_JS = """
export default function({ data, parentElement }) {
  const find = (name) => parentElement.querySelector(name);
  const range = find("input"), both = find(".both");
  for (const side of ["left", "right"]) {
    const picture = find("img." + side);
    if (picture.src !== data[side].address) picture.src = data[side].address;
    picture.alt = data[side].alt;
    find("." + side + "-name").textContent = data[side].name;
  }
  range.setAttribute("aria-label",
    "Visible part of the left picture: " + data.left.name + ", then " + data.right.name);
  const move = () => both.style.setProperty("--at", range.value + "%");
  range.oninput = move;
  move();
}
"""


@cache
def _component() -> Any:
    return v2.component("xbench_slider", html=_HTML, css=_CSS, js=_JS)


def compare_pictures(*, left: dict[str, str], right: dict[str, str], key: str) -> None:
    """Show two pictures under a slider; each has an `address`, a `name` and an `alt` text."""
    _component()(data={"left": left, "right": right}, key=key)
