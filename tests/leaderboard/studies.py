"""A small study of synthetic rows, for tests of votes."""

from leaderboard.study.design import Design, Study, design_study
from leaderboard.study.tokens import Blinding

BLINDING = Blinding(b"a secret of the tests, 32 letters or more")


def row(method, t0, *, case=0, seed=0, plugin="outline", scale=1.0, status="ok") -> dict:
    """Build a row of trials joined with results."""
    is_floor = method == "floor"
    trial_id = f"{'' if is_floor else plugin}-{method}-{t0}-{case}-{seed}-{scale}"
    return {
        "trial_id": trial_id,
        "plugin": "" if is_floor else plugin,
        "kind": "" if is_floor else "lora",
        "method": method,
        "t0": t0,
        "plugin_scale": None if is_floor else scale,
        "adapter_scale": 1.0 if method == "xadapter" else None,
        "case_id": f"case-{case}",
        "upgraded_prompt": f"prompt {case}",
        "condition_path": None,
        "seed": seed,
        "status": status,
        "image": f"images/{trial_id}.png" if status == "ok" else None,
    }


def rows(*, n_cases: int = 3, plugins=("outline", "canny"), t0s=(0.5, 0.9)) -> list[dict]:
    """Build rows of four methods, two of them at each t0."""
    found = []
    for case in range(n_cases):
        found.append(row("floor", None, case=case))
        for plugin in plugins:
            found.append(row("base", None, case=case, plugin=plugin))
            found += [
                row(method, t0, case=case, plugin=plugin)
                for method in ("sdedit", "xadapter")
                for t0 in t0s
            ]
    return found


def study(found: list[dict] | None = None, design: Design | None = None) -> Study:
    """Design the study of rows."""
    return design_study(
        rows() if found is None else found,
        run_id="run-1",
        run_name="drawn",
        family="pocket",
        design=design,
    )
