"""What `xbench doctor` concludes: which families this machine can run, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench.errors import UserError, shown_path
from bench.registry import installed
from plugins_manifest.text import shortened
from runners.families import family_traits, find_family

if TYPE_CHECKING:
    from bench.cli.doctor import Finding

# their models are part of xbench
_SMALL = ("pocket", "pocket-v", "pocket-flow", "pocket-far", "pocket-near")
_TRIALS = {
    **{name: f"try it: xbench run --manifest {name}" for name in _SMALL},
    "sd15-sdxl": "what a small run costs: xbench plan --manifest smoke",
}


@dataclass(frozen=True)
class Readiness:
    """The answer for one family: "yes", "yes, except ..." or "no, because ...", and what to do."""

    family: str
    answer: str
    steps: tuple[str, ...]

    @property
    def question(self) -> str:
        """What is answered."""
        return f"can run {self.family}"


def conclude(findings: Sequence[Finding]) -> Iterator[Readiness]:
    """Yield the answer for each installed family, xbench's own small ones first."""
    problems = [finding for finding in findings if finding.state == "problem"]
    has_gpu = any(finding.name in ("cuda", "mps") for finding in findings)
    for name in sorted(installed("families"), key=lambda name: (name not in _SMALL, name)):
        own = [p for p in problems if p.name != "pocket weights" or name in _SMALL]
        try:
            yield _refused(name, own) if own else _of_family(name, has_gpu=has_gpu)
        except UserError as error:
            yield Readiness(name, f"no, because {error}", ("repair or remove its package",))


def _refused(name: str, problems: Sequence[Finding]) -> Readiness:
    named = shortened([f"{problem.name}: {problem.detail}" for problem in problems], 2)
    fixes = dict.fromkeys(problem.fix for problem in problems if problem.fix)
    return Readiness(name, f"no, because of {named}", tuple(fixes) or ("repair the above",))


def _of_family(name: str, *, has_gpu: bool) -> Readiness:
    family = find_family(name)
    parts: Sequence[Any] = [*getattr(family, "sources", lambda adapter: ())(None)]
    needed = sum(part.megabytes or 0 for part in parts)
    to_fetch = sum(part.megabytes or 0 for part in parts if not part.is_here)
    memory, folder = psutil.virtual_memory().total / 1e6, _hub_folder()
    free = shutil.disk_usage(folder).free / 1e6
    if needed > memory:
        why = f"its models need {_gb(needed)} of memory, this machine has {_gb(memory)}"
        return Readiness(name, f"no, because {why}", ("use a machine with more memory",))
    if to_fetch > free:
        why = f"{_gb(to_fetch)} of models are missing and {_gb(free)} are free on the disk"
        step = f"free some space in {shown_path(folder)}, or set HF_HOME to another folder"
        return Readiness(name, f"no, because {why}", (step,))
    if unnamed := tuple(getattr(family, "model_problems", list)()):
        return Readiness(name, "no, because its models are not named", unnamed)
    mapper = None if family_traits(name).one_layout else family.mapper_problem(None)
    steps = [
        f"the first run downloads {_gb(to_fetch)} of models" if to_fetch else "",
        "no GPU was found: an image takes minutes" if parts and not has_gpu else "",
        "" if mapper is None else f"X-Adapter has no mapper here: {mapper.how}",
        _TRIALS.get(name, ""),
    ]
    answer = "yes" if mapper is None else "yes, except X-Adapter"
    return Readiness(name, answer, tuple(step for step in steps if step))


def _hub_folder() -> Path:
    """Return the folder of downloaded models, or the first above it that exists."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _gb(megabytes: float) -> str:
    return f"{megabytes / 1000:.1f} GB"
