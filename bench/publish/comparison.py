"""What a gate reads of a published run besides its tables: cases, conditions, set scores by prompt.

Prompts are named by their hash where a score leaves one out, so that those of plugins that are not
published cannot be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from bench.errors import UserError
from bench.publish.redaction import Privacy
from bench.store import RunStore, records
from bench.store.documents import left_out_of
from plugins_manifest.cases import Case

_TEXT, _REAL = pa.string(), pa.float64()
CASES = pa.schema(
    [
        ("case_id", _TEXT),
        ("prompt_sha256", _TEXT),  # its first digits; the key in `leave_one_out`
        ("facts", _TEXT),  # JSON: the case without paths
    ]
)
SET_KEY = ("plugin", "method", "t0", "plugin_scale", "adapter_scale", "metric")
SETS = pa.schema(
    [
        *((name, _REAL if "scale" in name or name == "t0" else _TEXT) for name in SET_KEY),
        ("leave_one_out", _TEXT),  # JSON: hash of a prompt -> value without that prompt
    ]
)
CONDITIONS = pa.schema([("path", _TEXT), ("sha256", _TEXT)])  # of the pixels
COMPARISON: Mapping[str, pa.Schema] = {"cases": CASES, "sets": SETS, "conditions": CONDITIONS}


def prompt_key(prompt: str) -> str:
    """Return the hash that names a prompt in a published set score."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:24]


def case_facts(case: Case) -> dict[str, Any]:
    """Return a case as plain data without the paths of its pictures."""
    kept = {k: v for k, v in asdict(case).items() if not k.endswith(("_path", "_paths"))}
    return json.loads(json.dumps(kept))


def comparison_tables(
    store: RunStore, privacy: Privacy, *, case_ids: Collection[str], left_out: Collection[str]
) -> Mapping[str, pa.Table] | None:
    """Return the tables of `COMPARISON`; None if the run's cases cannot be read any more."""
    try:
        cases = [case for name, case in store.cases().items() if name in case_ids]
    except UserError:
        return None
    scores = store.scores()
    whole: Any = scores[scores["leave_one_out"].notna() & ~scores["plugin"].isin([*left_out])]
    rows = [
        {
            **{key: row[key] for key in SET_KEY},
            "leave_one_out": json.dumps(
                {prompt_key(p): value for p, value in left_out_of(row["leave_one_out"]).items()}
            ),
        }
        for row in records(whole)
    ]
    listed = [
        {
            "case_id": case.case_id,
            "prompt_sha256": prompt_key(case.prompt),
            "facts": json.dumps(_public(case_facts(case), privacy)),
        }
        for case in cases
    ]
    hashes = [
        {"path": path, "sha256": sha256}
        for path, sha256 in store.condition_hashes().items()
        if PurePosixPath(path).stem in case_ids
    ]
    return {
        "conditions": pa.Table.from_pylist(hashes, schema=CONDITIONS),
        "cases": pa.Table.from_pylist(listed, schema=CASES),
        "sets": pa.Table.from_pylist(rows, schema=SETS),
    }


def _public(facts: dict[str, Any], privacy: Privacy) -> dict[str, Any]:
    return {k: privacy.content(v) if isinstance(v, str) else v for k, v in facts.items()}
