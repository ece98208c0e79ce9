"""The gate's policy: metrics, margins, error rates."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from bench.errors import UserError, shown_path, unknown_name
from bench.gate.decision import Collapse
from plugins_manifest.documents import read_yaml
from plugins_manifest.schema.numbers import Number, Seed, Whole
from plugins_manifest.schema.plugins import Section
from plugins_manifest.schema.words import MAX_CASES, MAX_ENTRIES

SHIPPED_POLICY = Path(__file__).parent / "gate_policy.yaml"
# pocket-fid, fid-infinity, fd-dinov2, ...: biased by c / N, so two runs' bias need not cancel
_FRECHET = re.compile(r"(^|[-_])(fid|fd|frechet)([-_]|$)", re.IGNORECASE)
_MARGINS, _SPREADS, _LEAST_IMAGES_OF_A_RATE = 10, 6, 3  # of a collapse
Share = Annotated[Number, Field(gt=0, le=1)]


class GateMetric(Section):
    """A metric with its margin: the largest tolerated mean loss in the metric's units.

    `spread` is the least standard deviation of a prompt's difference that is known from earlier
    pairs of mappers. A prompt that loses `collapse` or more has collapsed (`collapse_of`).
    """

    name: str = Field(min_length=1)
    margin: Number = Field(gt=0)
    spread: Number | None = Field(default=None, gt=0)
    collapse: Number | None = Field(default=None, gt=0)
    plugins: tuple[str, ...] | None = None
    required: bool = True

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if _FRECHET.search(value):
            raise ValueError(
                "a gate never uses a Frechet distance, whose bias depends on the number of "
                "images: use a kernel distance such as pocket-kid or cmmd"
            )
        return value

    def collapse_of(self, level: str, *, step: float, n_per_prompt: float) -> Collapse | None:
        """Return the loss of one prompt that counts as a collapse; None where none can be told.

        By default ten margins: a tenth of the prompts with such losses lose the margin by them
        alone, so the test of collapses finds the rates that the test of the mean does not. And
        six robust spreads, which few prompts reach by chance. Of a rate all images of the prompt,
        at least three: by chance (p (1 - p))^3 < 1.6 % of prompts lose that many.
        """
        if self.collapse is not None:
            return Collapse(self.collapse)
        if level != "image" or (step == 1 and n_per_prompt < _LEAST_IMAGES_OF_A_RATE):
            return None
        return Collapse(1.0) if step == 1 else Collapse(_MARGINS * self.margin, _SPREADS)


class Policy(Section):
    """Everything that a gate's verdicts depend on besides the scores.

    `looks` are shares of the cases after which the gate may stop; the last is 1. `plugins` and
    `t0` None mean all of the baseline. Of the prompts `max_collapse_rate` may collapse.
    """

    schema_version: Literal[1] = Field(alias="schema")
    metrics: tuple[GateMetric, ...] = Field(max_length=MAX_ENTRIES)
    alpha: Number = Field(default=0.05, gt=0, lt=0.5)
    power: Number = Field(default=0.8, gt=0.5, lt=1)
    min_prompts: Whole = Field(default=60, ge=5, le=MAX_CASES)
    min_prompts_regression: Whole = Field(default=10, ge=5, le=MAX_CASES)
    max_collapse_rate: Number = Field(default=0.02, gt=0, lt=1)
    looks: tuple[Share, ...] = Field(default=(0.4, 0.7, 1.0), max_length=20)
    methods: tuple[str, ...] = Field(default=("xadapter",), min_length=1)
    plugins: tuple[str, ...] | None = None
    t0: tuple[Share, ...] | None = None
    seed: Seed = 0

    @field_validator("looks")
    @classmethod
    def _check_looks(cls, looks: tuple[float, ...]) -> tuple[float, ...]:
        if not looks or looks[-1] != 1 or any(a >= b for a, b in itertools.pairwise(looks)):
            raise ValueError("looks must rise and end with 1, e.g. [0.4, 0.7, 1.0]")
        return looks

    @field_validator("metrics")
    @classmethod
    def _check_unique(cls, metrics: tuple[GateMetric, ...]) -> tuple[GateMetric, ...]:
        if not metrics:
            raise ValueError("name at least one metric with its margin")
        for name, count in Counter(metric.name for metric in metrics).items():
            if count > 1:
                raise ValueError(f"{name!r} is listed twice: remove one")
        return metrics

    def as_data(self) -> dict[str, Any]:
        """Return the policy as plain data with its defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def load_policy(path: Path | None) -> Policy:
    """Read a policy (default: the shipped one); raise one `UserError` with all problems."""
    path = path or SHIPPED_POLICY
    try:
        data = read_yaml(path, name=shown_path(path))
    except UserError as error:
        raise UserError(f"--policy: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"--policy: {path.name} must be a mapping with 'schema: 1' and 'metrics'")
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        problems = [f"{path.name}: {_explain(problem)}" for problem in error.errors()]
        raise UserError.collect(problems) from error


def _explain(problem: Any) -> str:
    loc = [str(part) for part in problem["loc"]]
    name = ".".join(loc)
    if problem["type"] == "extra_forbidden":
        model = GateMetric if loc[0] == "metrics" else Policy
        known = [field.alias or key for key, field in model.model_fields.items()]
        return unknown_name("key", loc[-1], known) + f" (in {name})"
    if problem["type"] == "missing":
        return f"{name} is missing: add it"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    given = "" if isinstance(value, dict | list) else f" (it is {repr(value)[:80]})"
    return f"{name}: {message}{given}"
