"""Say in one sentence why two runs do not pair, and how to get one that does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.gate.baseline import shown_run
from bench.store import RunStore
from plugins_manifest.text import shell_command, shortened

# beginnings of names -> what the candidate has; the first that fits
_CAUSES = (
    ("family", "other models"),
    ("weights", "other models"),
    ("settings.base_size", "another size in pixels"),
    ("settings.upgraded_size", "another size in pixels"),
    ("settings", "other settings"),
    ("cases.n", "another number of prompts"),
    ("cases", "other prompts"),
    ("seeds", "other seeds"),
    ("methods", "other methods"),
    ("plugins", "other plugins"),
    ("stacks", "other stacks"),
    ("conditions", "other condition images"),
)
_MACHINE = "another machine or torch"
_T0 = "other t0"
_NEW_PROMPTS = "prompts that the baseline lacks"
# what follows from another cause, and is not named beside it
_FOLLOWS = {
    "other condition images": ("another size in pixels", "other prompts", "other plugins"),
    "another number of prompts": ("other prompts",),
    _NEW_PROMPTS: ("other prompts", "another number of prompts"),
}
_N_SHOWN = 12


@dataclass(frozen=True)
class Difference:
    """One setting in which two runs differ: its name, and both values in words."""

    name: str
    text: str

    @property
    def cause(self) -> str:
        """What the candidate has that the baseline has not, in plain words."""
        if self.name.startswith("methods.") and self.name.endswith(".t0"):
            return _T0
        if self.name == "cases":
            return _NEW_PROMPTS
        found = (
            cause
            for start, cause in _CAUSES
            if self.name == start or self.name.startswith(f"{start}.")
        )
        return next(found, _MACHINE)

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def refuse(found: Sequence[Difference], baseline: RunStore, *, adapter: str | Path | None) -> None:
    """Raise one `UserError` that names the causes, then the settings, then what to run.

    `adapter` is the candidate's mapper, for the command.
    """
    if not found:
        return
    causes = _causes(found)
    shown = [str(one) for one in found if one.cause in causes]
    lines = [f"  - {line}" for line in shown[:_N_SHOWN]]
    lines += [f"  - and {len(shown) - _N_SHOWN} more"] if len(shown) > _N_SHOWN else []
    raise UserError(
        "\n".join(
            [
                f"the candidate does not pair with {shown_run(baseline)}: it has {_joined(causes)}",
                *lines,
                *_fix(causes, baseline, adapter),
            ]
        ),
        shown,
    )


def only_in(name: str, baseline: Iterable[str], candidate: Iterable[str]) -> list[Difference]:
    """Return a difference for each side with entries (plugins, ...) that the other lacks."""
    left, right = set(baseline), set(candidate)
    sides = (("baseline", left - right), ("candidate", right - left))
    return [
        Difference(name, f"only the {side} has {shortened(sorted(names))}")
        for side, names in sides
        if names
    ]


def _causes(found: Iterable[Difference]) -> list[str]:
    every = dict.fromkeys(one.cause for one in found)
    return [cause for cause in every if not any(f in every for f in _FOLLOWS.get(cause, ()))]


def _joined(causes: Sequence[str]) -> str:
    *first, last = causes
    return f"{', '.join(first)} and {last}" if first else last


def _fix(causes: Sequence[str], baseline: RunStore, adapter: str | Path | None) -> list[str]:
    if causes == [_MACHINE]:
        words = ["xbench", "run", "--manifest", baseline.manifest_path, "--out", "runs/baseline"]
        return [f"Make a new baseline on this machine: {shell_command(words)}"]
    shown = shown_run(baseline)
    words = ["xbench", "run", "--baseline", shown if "://" in shown else baseline.folder]
    words += [] if adapter is None else ["--adapter", adapter]
    return [
        f"Render the candidate with the baseline's settings: {shell_command(words)}",
        "Or make a new baseline with the candidate's settings",
    ]
