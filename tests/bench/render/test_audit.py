from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.render.audit import LoadAudit, audited, merge_audits, read_audits, remarks
from bench.report.text import WIDTH, format_summary
from bench.store import schema
from bench.store.run_store import RunStore
from runners.audit import Audit, AuditRow, PluginNotAppliedError, require_complete
from runners.base import PluginFile, Rendered

FILE = PluginFile("style", "lora", Path("style.safetensors"), sha256="s" * 64)
MODEL = {"base": "b" * 64, "preset": "sound"}
GOOD = AuditRow("unet.a.weight", "lora", 3, expected=2.0, applied=2.0, max_error=1e-7)
LOST = AuditRow("lora_unet_b", n_keys=3, missing=True, reason="unmatched-module", detail="near c")
ZERO = AuditRow("unet.z.weight", "lora", 3, expected=0.0, applied=0.0, reason="no-change")
WHOLE, PARTIAL = Audit((GOOD, ZERO)), Audit((GOOD, LOST, LOST, LOST))


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    found = RunStore(tmp_path / "run")
    found.write_trials(
        [
            {"trial_id": "1", "plugin": "style", "stack": '["style"]'},
            {"trial_id": "2", "plugin": "style+net", "stack": '["style", "net"]'},
            {"trial_id": "3", "plugin": "net", "stack": '["net"]'},
            {"trial_id": "4", "plugin": "", "stack": "[]"},
        ]
    )
    return found


def book(store: RunStore, kept: Path | None = None, **model: str) -> LoadAudit:
    return LoadAudit(store, model={**MODEL, **model}, kept=kept)


def test_audit_parquet_has_exactly_the_public_columns_and_every_row(store: RunStore) -> None:
    book(store).enter(FILE, PARTIAL)
    table = pq.read_table(store.folder / "audit.parquet")
    assert table.schema.equals(schema.AUDIT)
    assert read_audits(store) == {"style": PARTIAL}
    assert table["reason"].to_pylist() == [None, *["unmatched-module"] * 3]


def test_a_resumed_run_keeps_the_audits_of_before(store: RunStore) -> None:
    book(store).enter(FILE, WHOLE)
    book(store).enter(replace(FILE, plugin_id="net"), PARTIAL)
    assert read_audits(store) == {"style": WHOLE, "net": PARTIAL}


def test_images_from_the_cache_bring_their_audit_along(store: RunStore, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    book(RunStore(tmp_path / "first"), kept).enter(FILE, PARTIAL)
    book(store, kept).complete([FILE])
    assert read_audits(store) == {"style": PARTIAL}


@pytest.mark.parametrize("changed", ["base", "preset"])
def test_an_audit_in_another_model_or_preset_is_another(
    store: RunStore, tmp_path: Path, changed: str
) -> None:
    kept = tmp_path / "kept"
    book(RunStore(tmp_path / "first"), kept, **{changed: "other"}).enter(FILE, WHOLE)
    book(store, kept).complete([FILE])
    assert read_audits(store) == {}


def test_a_refused_plugin_is_entered_and_its_error_goes_on(store: RunStore) -> None:
    def rendered(_on_loaded: object) -> Iterator[Rendered]:
        raise PluginNotAppliedError("refused", PARTIAL, plugin_id="style")
        yield

    results = audited((replace(FILE, plugin_id="net"), FILE), rendered)
    found: Any = next(results)
    assert (found.file, found.audit) == (FILE, PARTIAL)
    with pytest.raises(PluginNotAppliedError):
        next(results)


def test_a_partial_plugin_and_its_stack_have_a_remark(store: RunStore) -> None:
    audits = book(store)
    audits.enter(FILE, PARTIAL)
    audits.enter(replace(FILE, plugin_id="net"), WHOLE)
    texts = remarks(store)
    assert set(texts) == {"style", "style+net"}
    assert "1 of 4 changes applied (25.0 %)" in texts["style"]
    summary = pd.DataFrame(
        [
            {
                **dict.fromkeys(schema.SUMMARY.names),
                **{"plugin": name, "kind": "lora", "method": "base", "metric": "clip-score"},
                **{"better": "higher", "value": 0.5, "n": 3},
            }
            for name in ("style", "net")
        ]
    )
    lines = format_summary(summary, texts).splitlines()
    assert sum("25.0 %" in line for line in lines) == 1
    assert max(len(line) for line in lines) <= WIDTH


def test_under_100_percent_a_plugin_fails_unless_a_part_is_allowed() -> None:
    require_complete(WHOLE, plugin_id="p", what="f", allow_partial=False)
    require_complete(PARTIAL, plugin_id="p", what="f", allow_partial=True)
    with pytest.raises(PluginNotAppliedError, match=r"25\.0 %.*lora_unet_b: near c.*allow_partial"):
        require_complete(PARTIAL, plugin_id="p", what="f", allow_partial=False)


@pytest.mark.parametrize("rows", [(), (ZERO,), (LOST,)])
def test_an_empty_audit_has_no_share(rows: tuple[AuditRow, ...]) -> None:
    with pytest.raises(PluginNotAppliedError) as raised:
        require_complete(Audit(rows), plugin_id="p", what="f", allow_partial=True)
    assert "allow_partial" not in str(raised.value)


def test_almost_everything_is_never_called_100_percent() -> None:
    audit = Audit((*[GOOD] * 9999, LOST))
    assert "(99.9 %)" in audit.summary() and not audit.is_complete


def test_an_unexpected_change_is_counted_with_the_expected_ones() -> None:
    audit = Audit((GOOD, AuditRow("unet.x", extra=True, reason="extra-change")))
    assert (audit.n_expected, audit.n_applied, audit.is_complete) == (1, 1, False)


def test_audits_of_parts_are_merged_and_the_run_keeps_its_own(
    store: RunStore, tmp_path: Path
) -> None:
    part = RunStore(tmp_path / "part")
    book(store).enter(FILE, WHOLE)
    for name in (FILE.plugin_id, "second"):
        book(part).enter(replace(FILE, plugin_id=name), PARTIAL)
    merge_audits(store, part)
    assert read_audits(store) == {"style": WHOLE, "second": PARTIAL}
