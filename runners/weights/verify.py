"""Compares what the model holds while a plugin is attached with what its file asks for.

Not circular: W_after - W_before is read from the model, and the wanted change is computed anew, in
float64, from the file's tensors and W_before alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from plugins_manifest.formats.parsed import ModuleChange
from runners.audit import AuditRow
from runners.weights.engine import PluginWeights, merged_into
from runners.weights.errors import PluginWeightsError
from runners.weights.formulas import change_of

# Of an element, relative to the largest change of the parameter; and what float32 arithmetic on
# weights may cost where a small change is left of large terms (GLoRA, DoRA, OFT), relative to the
# largest weight.
TOLERANCE = 1e-5
ARITHMETIC = 8 * torch.finfo(torch.float32).eps
_SAME_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def usable_changes(
    weights: PluginWeights, targets: Mapping[str, nn.Parameter]
) -> tuple[PluginWeights, list[AuditRow]]:
    """What can be merged, and a row for every parameter whose change does not fit or is no number.

    A parameter whose changes are not all usable is left out whole.
    """
    usable: list[ModuleChange] = []
    rows = []
    for name, changes in weights.by_target().items():
        row = _refused(name, changes, weights)
        if row is None:
            try:
                wanted = wanted_change(weights, changes, targets[name])
            except PluginWeightsError as error:
                row = _row(name, changes, missing=True, reason="bad-shape", detail=str(error))
            else:
                row = _non_finite(name, changes, wanted)
        if row is None:
            usable.extend(changes)
        else:
            rows.append(row)
    return PluginWeights(tuple(usable), weights.tensors, weights.semantics), rows


def verify(weights: PluginWeights, targets: Mapping[str, nn.Parameter]) -> list[AuditRow]:
    """Attach at strength 1, read every parameter of the model, detach; one row a changed parameter.

    Rows with `extra` are parameters that changed without being asked to.
    """
    groups = weights.by_target()
    before = {name: targets[name].detach().clone() for name in groups}
    marks = {name: fingerprint(p) for name, p in targets.items() if name not in groups}
    rows = []
    with merged_into(targets, weights, strength=1.0):
        for name, changes in groups.items():
            wanted = wanted_change(weights, changes, before[name])
            rows.append(_compared(name, changes, wanted, before[name], targets[name].detach()))
        strangers = [name for name, mark in marks.items() if fingerprint(targets[name]) != mark]
    rows += [_extra(name) for name in strangers]
    return rows


def wanted_change(
    weights: PluginWeights, changes: Sequence[ModuleChange], weight: Tensor
) -> Tensor:
    """What the file asks of one parameter at weight 1, in float64, shaped as the parameter."""
    start = weight.detach().double()
    total = torch.zeros_like(start)
    for change in changes:
        total = total + change_of(change.formula, weights.parts(change, start), start + total)
    return total


def fingerprint(parameter: Tensor) -> tuple[int, int]:
    """Two sums over the bits of a tensor; a change of any element changes the first."""
    flat = parameter.detach().reshape(-1)
    bits = flat.view(_SAME_SIZE[flat.element_size()]).long()
    return int(bits.sum()), int((bits * bits).sum())


def _compared(
    name: str, changes: Sequence[ModuleChange], wanted: Tensor, before: Tensor, after: Tensor
) -> AuditRow:
    applied = after.double() - before.double()
    n_bad = int((~torch.isfinite(applied)).sum())
    if n_bad:  # finite in the file, but beyond what the model's dtype holds
        return _row(name, changes, expected=wanted, non_finite=n_bad, reason="non-finite")
    errors = (applied - wanted).abs()
    largest = float(wanted.abs().max())
    # The sum is rounded to the model's dtype: half a unit in the last place of W_after, doubled.
    rounding = torch.finfo(after.dtype).eps * (before.double() + wanted).abs()
    noise = rounding + ARITHMETIC * float(before.double().abs().max())
    max_error = float((errors - noise).clamp_min(0).max()) / (largest or 1.0)
    is_right = max_error <= TOLERANCE
    reason = None if is_right else "inexact" if applied.any() else "not-applied"
    if is_right and not wanted.any():
        reason = "no-change"
    return _row(
        name,
        changes,
        expected=wanted,
        applied=applied,
        missing=reason == "not-applied",
        max_error=max_error,
        reason=reason,
    )


def _refused(name: str, changes: Sequence[ModuleChange], weights: PluginWeights) -> AuditRow | None:
    """A row for tensors that hold NaN or infinities, counted in the file itself."""
    keys = {key for change in changes for key in change.parts.values()}
    n_bad = sum(int((~torch.isfinite(weights.tensors[key].float())).sum()) for key in keys)
    if not n_bad:
        return None
    return _row(name, changes, missing=True, non_finite=n_bad, reason="non-finite")


def _non_finite(name: str, changes: Sequence[ModuleChange], wanted: Tensor) -> AuditRow | None:
    """A row for a change that overflows, or divides by zero, though all its parts are finite."""
    n_bad = int((~torch.isfinite(wanted)).sum())
    if not n_bad:
        return None
    return _row(name, changes, missing=True, non_finite=n_bad, reason="non-finite")


def _row(
    name: str,
    changes: Sequence[ModuleChange],
    *,
    expected: Tensor | None = None,
    applied: Tensor | None = None,
    missing: bool = False,
    non_finite: int = 0,
    max_error: float | None = None,
    reason: str | None = None,
    detail: str = "",
) -> AuditRow:
    return AuditRow(
        module=name,
        formula=" + ".join(dict.fromkeys(change.formula for change in changes)),
        n_keys=sum(len(change.parts) for change in changes),
        expected=None if expected is None else float(torch.linalg.vector_norm(expected)),
        applied=None if applied is None else float(torch.linalg.vector_norm(applied)),
        missing=missing,
        non_finite=non_finite,
        max_error=max_error,
        reason=reason,
        detail=detail,
    )


def _extra(name: str) -> AuditRow:
    return AuditRow(module=name, extra=True, reason="extra-change")
