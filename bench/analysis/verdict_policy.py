"""The thresholds of verdicts: a file beside this one, or a user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bench.errors import UserError, shown_path
from metrics.stats.verdicts import Thresholds
from plugins_manifest.documents import read_yaml
from plugins_manifest.schema.numbers import Number, Whole
from plugins_manifest.schema.plugins import Section
from plugins_manifest.schema.words import MAX_CASES

SHIPPED_VERDICT_POLICY = Path(__file__).parent / "verdict_policy.yaml"
_Share = Annotated[Number, Field(ge=0, le=1)]
_Prompts = Annotated[Whole, Field(ge=12, le=MAX_CASES)]


class _VerdictPolicy(Section):
    schema_version: Literal[1] = Field(alias="schema")
    works: _Share
    lost: _Share
    like_new: _Share
    like_old: _Share
    level: Annotated[Number, Field(gt=0, lt=0.5)]
    min_prompts: _Prompts
    min_prompts_of_rates: _Prompts


def load_thresholds(path: Path | None = None) -> Thresholds:
    """Read thresholds (default: the shipped ones); raise one `UserError` with all problems."""
    path = path or SHIPPED_VERDICT_POLICY
    data = read_yaml(path, name=shown_path(path))
    if not isinstance(data, dict):
        raise UserError(f"{path.name} must be a mapping with 'schema: 1' and thresholds")
    try:
        values: dict[str, Any] = _VerdictPolicy.model_validate(data).model_dump()
        return Thresholds(**{k: v for k, v in values.items() if k != "schema_version"})
    except ValidationError as error:
        problems = [
            f"{path.name}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise UserError.collect(problems) from error
    except ValueError as error:
        raise UserError(f"{path.name}: {error}") from error
