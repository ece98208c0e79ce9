"""The audit sees what a wrong merge does, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plugins_manifest.formats.parsed import ModuleChange
from runners.audit import Audit
from runners.weights import engine, verify
from runners.weights.engine import PluginWeights, merged_into
from tests.runners.weights.claims import random

CHANGES = (
    ModuleChange("net.0.weight", "lora", {"down": "d", "up": "u", "alpha": "a"}),
    ModuleChange("net.1.weight", "full", {"diff": "f"}),
)
TENSORS = {
    "d": random(2, 6, seed=1),
    "u": random(6, 2, seed=2),
    "a": torch.tensor(1.0),
    "f": random(6, 6, seed=3),
}


def model(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    return {
        f"net.{i}.weight": nn.Parameter(random(6, 6, seed=10 + i).to(dtype), requires_grad=False)
        for i in range(3)
    }


def audit(weights: PluginWeights, into: dict[str, nn.Parameter]) -> Audit:
    return Audit(tuple(verify.verify_weights(weights, into)[1]))


def reasons(found: Audit) -> dict[str, str | None]:
    return {row.module: row.reason for row in found.rows}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_right_merge_is_complete_in_every_dtype(dtype: torch.dtype) -> None:
    found = audit(PluginWeights(CHANGES, TENSORS), model(dtype))
    assert found.is_complete and found.share == 1 and len(found.rows) == 2
    for row, change in zip(
        found.rows, (0.5 * TENSORS["u"] @ TENSORS["d"], TENSORS["f"]), strict=True
    ):
        assert row.expected == pytest.approx(float(change.norm()), rel=1e-5)
        assert row.applied == pytest.approx(row.expected, rel=0.05)
        assert row.max_error is not None and row.max_error <= verify.TOLERANCE


def test_the_model_is_left_as_it_was() -> None:
    into = model()
    before = {name: p.detach().clone() for name, p in into.items()}
    audit(PluginWeights(CHANGES, TENSORS), into)
    assert all(torch.equal(p, before[name]) for name, p in into.items())


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda change: 2 * change, "inexact"),
        (lambda change: change.T, "inexact"),
        (lambda change: 1.001 * change, "inexact"),
        (lambda change: 0 * change, "not-applied"),
        (lambda change: change * float("inf"), "non-finite"),
    ],
)
def test_a_wrong_merge_is_caught(monkeypatch: pytest.MonkeyPatch, wrong: Any, reason: str) -> None:
    right = engine.change_of

    def change_of(formula: Any, parts: Mapping[str, Tensor], weight: Tensor) -> Tensor:
        return wrong(right(formula, parts, weight))

    monkeypatch.setattr(engine, "change_of", change_of)
    found = audit(PluginWeights(CHANGES, TENSORS), model())
    assert reasons(found) == {"net.0.weight": reason, "net.1.weight": reason}
    assert not found.is_complete and found.n_applied == 0


def test_a_change_of_the_wrong_parameter_is_caught_on_both_sides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def misdirected(
        targets: dict[str, nn.Parameter], weights: PluginWeights, *, strength: float
    ) -> Iterator[None]:
        turned = {**targets, "net.1.weight": targets["net.2.weight"]}
        with merged_into(turned, weights, strength=strength):
            yield

    monkeypatch.setattr(verify, "merged_into", misdirected)
    found = audit(PluginWeights(CHANGES, TENSORS), model())
    assert reasons(found) == {
        "net.0.weight": None,
        "net.1.weight": "not-applied",
        "net.2.weight": "extra-change",
    }
    assert found.share == 0.5 and not found.is_complete
    assert "net.1.weight" in found.summary() and "net.2.weight" in found.summary()


def test_one_changed_element_is_seen() -> None:
    before = random(100, seed=0)
    mark = verify.fingerprint(before)
    before[17] = torch.nextafter(before[17], torch.tensor(9.0))
    assert verify.fingerprint(before) != mark


def test_nan_in_the_file_keeps_its_parameter_out_and_is_counted() -> None:
    tensors = {**TENSORS, "u": TENSORS["u"].clone()}
    tensors["u"][0, 0], tensors["u"][1, 1] = float("nan"), float("inf")
    usable, rows = verify.verify_weights(PluginWeights(CHANGES, tensors), model())
    assert [change.target for change in usable.changes] == ["net.1.weight"]
    assert [(row.module, row.reason, row.non_finite) for row in rows] == [
        ("net.1.weight", None, 0),
        ("net.0.weight", "non-finite", 2),
    ]


def test_finite_parts_with_an_overflowing_product_are_refused() -> None:
    tensors = {**TENSORS, "f": torch.full((6, 6), 1e30)}
    usable, rows = verify.verify_weights(PluginWeights(CHANGES, tensors), model(torch.float16))
    assert [change.target for change in usable.changes] == ["net.0.weight"]
    assert reasons(Audit(tuple(rows))) == {
        "net.0.weight": None,
        "net.1.weight": "non-finite",
    }


def test_zero_changes_are_told_but_harmless_unless_all_are() -> None:
    tensors = {**TENSORS, "u": torch.zeros(6, 2)}
    found = audit(PluginWeights(CHANGES, tensors), model())
    assert reasons(found)["net.0.weight"] == "no-change" and found.is_complete
    tensors["f"] = torch.zeros(6, 6)
    found = audit(PluginWeights(CHANGES, tensors), model())
    assert found.share == 0 and not found.is_complete and "every change is zero" in found.summary()


def test_parts_that_do_not_fit_become_a_row_with_their_shapes() -> None:
    tensors = {**TENSORS, "d": random(2, 5, seed=0)}
    usable, rows = verify.verify_weights(PluginWeights(CHANGES, tensors), model())
    assert rows[1].reason == "bad-shape" and "(2, 5)" in rows[1].detail and rows[0].is_ok
    assert len(usable.changes) == 1
