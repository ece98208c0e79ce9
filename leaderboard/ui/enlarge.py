"""Pictures side by side that open large by click, touch or key; Escape closes.

Large pictures are flipped in place with the arrow keys, so that small differences can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from streamlit.components import v2

_HTML = """
<div class="row"></div>
<dialog aria-label="Enlarged picture">
  <figure><img><figcaption></figcaption></figure>
  <p><button class="other" type="button">Other picture (\u2190 \u2192)</button>
  <button class="close" type="button" autofocus>Close (Esc)</button></p>
</dialog>
"""
_CSS = """
.row { display: grid; gap: 12px; justify-content: center; align-items: start;
  grid-auto-flow: column; grid-auto-columns: minmax(0, min(50vh, 520px));
  font-family: var(--st-font); color: var(--st-text-color); }
.row.aims { grid-template-columns: minmax(0, min(50vh, 520px)) minmax(64px, min(22vh, 220px))
  minmax(0, min(50vh, 520px)); }
.aim { grid-column: 2; grid-row: 1; display: grid; gap: 8px; }
.aims > .picture:nth-of-type(1) { grid-column: 1; grid-row: 1; }
.aims > .picture:nth-of-type(2) { grid-column: 3; grid-row: 1; }
figure { margin: 0; }
figcaption { font-size: 0.875rem; text-align: center; overflow-wrap: anywhere; }
.row button { display: block; width: 100%; padding: 0; border: 0; border-radius: 8px;
  background: var(--st-secondary-background-color); cursor: zoom-in; aspect-ratio: 1; }
.row img { display: block; width: 100%; height: 100%; object-fit: contain; border-radius: 8px; }
button:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: 2px; }
dialog { border: 0; border-radius: 8px; padding: 12px; max-width: 98vw; max-height: 98vh;
  background: var(--st-background-color); color: var(--st-text-color);
  font-family: var(--st-font); text-align: center; }
dialog::backdrop { background: rgb(0 0 0 / 0.8); }
dialog img { display: block; width: min(92vw, 82vh); height: min(92vw, 82vh);
  object-fit: contain; cursor: zoom-out; }
dialog p { margin: 8px 0 0; display: flex; gap: 8px; justify-content: center; flex-wrap: wrap; }
dialog p button { font: inherit; padding: 6px 12px; border-radius: 8px; min-height: 40px;
  border: 1px solid var(--st-border-color); background: var(--st-secondary-background-color);
  color: var(--st-text-color); cursor: pointer; }
@media (max-width: 640px) {
  .row, .row.aims { grid-auto-columns: minmax(0, 1fr); grid-template-columns: none; gap: 8px; }
  .row.aims { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .aim { grid-column: 1 / 3; grid-auto-flow: column; grid-auto-columns: minmax(0, 88px);
    justify-content: center; }
  .aims > .picture:nth-of-type(1) { grid-column: 1; grid-row: 2; }
  .aims > .picture:nth-of-type(2) { grid-column: 2; grid-row: 2; }
}
"""
# data is set by `textContent`, `alt` and `src`: nothing of it becomes markup
_JS = """
export default function({ data, parentElement }) {
  const find = (name) => parentElement.querySelector(name);
  const row = find(".row"), dialog = find("dialog"), large = find("dialog img");
  const pictures = [...data.aims, ...data.pictures];
  const first = data.aims.length;
  let at = first;
  const put = (place) => {
    at = (place + pictures.length) % pictures.length;
    large.src = pictures[at].address;
    large.alt = pictures[at].alt;
    find("dialog figcaption").textContent = pictures[at].name;
  };
  const open = (place) => { put(place); if (!dialog.open) dialog.showModal(); };
  const figure = (picture, place) => {
    const [box, button, image, name] =
      ["figure", "button", "img", "figcaption"].map((tag) => document.createElement(tag));
    box.className = place < first ? "" : "picture";
    button.type = "button";
    button.title = "Enlarge";
    button.onclick = () => open(place);
    image.src = picture.address;
    image.alt = picture.alt;
    name.textContent = picture.name;
    button.append(image);
    box.append(button, name);
    return box;
  };
  const content = JSON.stringify(data);
  if (row.dataset.content !== content) {
    if (dialog.open) dialog.close();
    row.dataset.content = content;
    row.className = first ? "row aims" : "row";
    const figures = pictures.map(figure);
    const aims = document.createElement("div");
    aims.className = "aim";
    aims.append(...figures.slice(0, first));
    row.replaceChildren(...(first ? [aims] : []), ...figures.slice(first));
  } else {
    parentElement.querySelectorAll(".row button").forEach(
      (button, place) => { button.onclick = () => open(place); });
  }
  find(".other").hidden = pictures.length < 2;
  find(".other").onclick = () => put(at + 1);
  find(".close").onclick = large.onclick = () => dialog.close();
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  // the keys of the page are for answers: none of them counts while a picture is large
  dialog.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "ArrowLeft") put(at - 1);
    if (event.key === "ArrowRight") put(at + 1);
  };
  row.listening?.abort();
  row.listening = new AbortController();
  document.addEventListener("keydown", (event) => {
    const target = event.composedPath()[0];
    const isTyping = target instanceof Element && target.matches("input, textarea, select");
    if (event.key.toLowerCase() === "e" && !isTyping && !event.ctrlKey && !event.metaKey
        && !event.altKey && data.has_key) open(first);
  }, { signal: row.listening.signal });
  return () => row.listening.abort();
}
"""


@dataclass(frozen=True)
class Shown:
    """A picture by its address, with the name below it and an alt text."""

    address: str
    name: str
    alt: str


@cache
def _component() -> Any:
    return v2.component("xbench_enlarge", html=_HTML, css=_CSS, js=_JS)


def show_pictures(
    pictures: Sequence[Shown], *, key: str, aims: Sequence[Shown] = (), has_key: bool = True
) -> None:
    """Show pictures side by side, the small `aims` between the first two.

    On narrow screens the aims come first. With `has_key` the key E enlarges the first picture.
    """
    data = {
        "pictures": [asdict(picture) for picture in pictures],
        "aims": [asdict(picture) for picture in aims],
        "has_key": has_key,
    }
    _component()(data=data, key=key)
