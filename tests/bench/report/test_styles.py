"""A method has the same order, color and marker in the report and on the leaderboard's pages."""

import subprocess
import sys
from pathlib import Path

from bench.analysis.glossary import legend_name, method_name
from bench.analysis.summary import Arm, arm_order
from bench.registry import find_method, installed
from bench.report.plots import styles
from bench.report.styles import GRAY, method_order, method_style
from leaderboard.figures.charts import retention_chart
from tests.extension import in_process_with

# matplotlib's name of a marker, Vega's name or the start of its path
SAME_MARKER = {
    **{"o": "circle", "s": "square", "D": "diamond", "P": "cross"},
    **{"^": "triangle-up", "v": "triangle-down", "<": "triangle-left", ">": "triangle-right"},
    **{"*": "M0-1L.22", "X": "M-.7-1", "p": "M0-1L.95-.31L.59", "h": "M0-1L.87"},
    **{"8": "M-.4-1L.4", "d": "M0-1L.6 0"},
}
METHODS = sorted(installed("methods"))
PAGES = ("#ffffff", "#0e1117", "#14171c")  # Streamlit's and the site's backgrounds
LOOKS = """
def report_looks(names):
    from bench.report.plots import styles
    return {name: look[:2] for name, look in styles(names).items()}


def page_looks(names):
    from leaderboard.figures.charts import retention_chart
    kept = {"retention": 0.5, "retention_low": 0.4, "retention_high": 0.6}
    rows = [{"plugin": "p", "method": name, **kept} for name in names]
    points = retention_chart(rows)["layer"][0]["layer"][-1]
    colors, shapes = (points["encoding"][key]["scale"] for key in ("color", "shape"))
    assert colors["domain"] == shapes["domain"] == points["encoding"]["yOffset"]["sort"]
    looks = zip(colors["range"], shapes["range"], strict=True)
    by_title = dict(zip(colors["domain"], looks, strict=True))
    from bench.analysis.glossary import legend_name
    return {name: by_title[legend_name(name)] for name in report_looks(names)}
"""
THIRD_PARTY = """
from runners.base import MethodStyle


class Styled:
    name, side, shares = "theirs-styled", "upgraded", ()
    uses_t0 = uses_plugin = uses_adapter = False
    style = MethodStyle(35, "#123456", "hexagon", "their way to make an image")

    def render(self, session, variant): ...


class Plain:
    name, side, shares = "theirs-plain", "upgraded", ()
    uses_t0 = uses_plugin = uses_adapter = False
    cast = "native"

    def render(self, session, variant): ...
"""


def test_report_and_pages_show_every_installed_method_the_same():
    looks: dict = {}
    exec(LOOKS, looks)
    report, page = looks["report_looks"](METHODS), looks["page_looks"](METHODS)
    assert list(report) == list(page) == method_order(METHODS)
    for name, (color, marker) in report.items():
        assert color == page[name][0] == method_style(name).color
        assert page[name][1].startswith(SAME_MARKER[marker])


def test_the_tables_list_methods_in_the_order_of_the_legends():
    arms = [Arm("p", "lora", name, None, None, None) for name in METHODS]
    assert [arm.method for arm in sorted(arms, key=arm_order)] == method_order(METHODS)
    assert method_order(METHODS)[0] == "base"
    assert method_order(METHODS)[-2:] == ["floor", "base-floor"]


def test_every_installed_method_has_its_own_look_and_a_sentence():
    found = [method_style(name) for name in METHODS]
    assert all(find_method(name).style is method_style(name) for name in METHODS)  # type: ignore[attr-defined]
    assert len({(style.color, style.marker) for style in found}) == len(found)
    assert len({style.order for style in found}) == len(found)
    assert all(style.sentence and not style.sentence.endswith(".") for style in found)


def luminance(color: str) -> float:
    """Return the relative luminance of a color by WCAG 2.2."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_color_can_be_seen_on_light_and_on_dark_pages():
    assert contrast("#ffffff", "#000000") == 21
    unknown = [f"theirs-{i}" for i in range(50)]
    assert len({method_style(name).color for name in unknown}) == 3
    for color in {GRAY, *(method_style(name).color for name in [*METHODS, *unknown])}:
        assert min(contrast(color, page) for page in PAGES) >= 3, color


def test_every_installed_method_has_a_plain_name_of_its_own():
    for naming in (method_name, legend_name):
        names = {naming(name) for name in METHODS}
        assert len(names) == len(METHODS) and not names & set(METHODS)
    assert method_name("theirs") == legend_name("theirs") == "theirs"


def test_an_unknown_method_looks_the_same_whatever_stands_beside_it():
    alone, together = styles(["theirs"]), styles(["another", "xadapter", "theirs", "base"])
    assert alone["theirs"] == together["theirs"]
    known = {(style.color, style.marker) for style in map(method_style, METHODS)}
    assert (method_style("theirs").color, method_style("theirs").marker) not in known
    assert method_order(["floor", "theirs", "base"]) == ["base", "theirs", "floor"]
    rows = [
        {
            "plugin": "p",
            "method": "theirs",
            "retention": 0.5,
            "retention_low": 0.4,
            "retention_high": 0.6,
        }
    ]
    assert method_style("theirs").color in str(retention_chart(rows))


def test_a_third_partys_method_has_its_own_style_in_the_report_and_on_the_pages(tmp_path: Path):
    names = ["theirs-styled", "theirs-plain", "xadapter", "sdedit"]
    code = f"{LOOKS}\nimport json, sys\nnames = {names!r}\n"
    code += "from bench.registry import find_method\n"
    code += "from runners.protocols import arrangement_of\n"
    code += "found = [report_looks(names), page_looks(names)]\n"
    code += "found.append(arrangement_of(find_method('theirs-plain')))\n"
    code += "print(json.dumps([*found, 'torch' in sys.modules]))"
    report, page, arrangement, loads_torch = in_process_with(
        tmp_path,
        module=THIRD_PARTY,
        entry_points={"xbench.methods": {"theirs-styled": "Styled", "theirs-plain": "Plain"}},
        code=code,
    )
    assert list(report) == list(page) == ["sdedit", "theirs-styled", "xadapter", "theirs-plain"]
    assert report["theirs-styled"] == ["#123456", "h"]
    assert page["theirs-styled"][0] == "#123456" and page["theirs-styled"][1].startswith("M0-1L.87")
    assert report["theirs-plain"][0] == page["theirs-plain"][0]
    assert page["theirs-plain"][1].startswith(SAME_MARKER[report["theirs-plain"][1]])
    assert arrangement == "native" and not loads_torch


def test_a_method_whose_module_cannot_be_imported_has_a_default_style():
    code = "import sys\nsys.modules['runners.methods'] = None\nsys.modules['torch'] = None\n"
    code += "from bench.report.styles import method_order, method_style\n"
    code += "assert method_style('xadapter').color.startswith('#')\n"
    code += "assert method_order(['xadapter', 'base']) == ['base', 'xadapter']\n"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
