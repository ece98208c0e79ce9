"""Compare the model, while a plugin is attached, with the changes that its file contains.

Not circular: W_after - W_before is read from the model, and the expected change is recomputed, in
float64, from the file's tensors and W_before alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from plugins_manifest.formats import ModuleChange
from plugins_manifest.formats.values import LARGEST, ignores_alpha
from runners.audit import AuditRow
from runners.weights.engine import MisfitError, PluginWeights, merged_into
from runners.weights.formulas import change_of

# Tolerance of an element, relative to the largest change of the parameter; and of float32
# arithmetic where a small change remains of large terms (GLoRA, DoRA, OFT), relative to the
# largest weight.
TOLERANCE = 1e-5
ARITHMETIC = 8 * torch.finfo(torch.float32).eps
_SAME_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def verify_weights(
    weights: PluginWeights, targets: Mapping[str, nn.Parameter]
) -> tuple[PluginWeights, list[AuditRow]]:
    """Attach at strength 1, read every parameter of the model, detach.

    Returns what can be merged, and one row per parameter: those that the file changes and, with
    `extra`, others that changed. A parameter is left out unless all its changes are finite and
    fit.
    """
    usable, refused = _finite(weights)
    while True:
        try:
            rows = _attached_rows(usable, targets)
            break
        except MisfitError as error:  # rare: the parser has checked the shapes
            changes = usable.by_target()[error.target]
            refused.append(
                _row(error.target, changes, missing=True, reason="bad-shape", detail=str(error))
            )
            usable = usable.without({error.target})
    broken = {row.module for row in rows if row.non_finite}
    return usable.without(broken), [*rows, *refused]


def _attached_rows(weights: PluginWeights, targets: Mapping[str, nn.Parameter]) -> list[AuditRow]:
    groups = weights.by_target()
    before = {name: targets[name].detach().clone() for name in groups}
    marks = {name: fingerprint(p) for name, p in targets.items() if name not in groups}
    with merged_into(targets, weights, strength=1.0):
        rows = [
            _compared(
                name,
                changes,
                expected_change(weights, changes, before[name]),
                before=before[name],
                after=targets[name].detach(),
            )
            for name, changes in groups.items()
        ]
        others = [name for name, mark in marks.items() if fingerprint(targets[name]) != mark]
    return rows + [AuditRow(module=name, extra=True, reason="extra-change") for name in others]


def expected_change(
    weights: PluginWeights, changes: Sequence[ModuleChange], weight: Tensor
) -> Tensor:
    """Return the file's change of one parameter at weight 1, in float64 and its shape."""
    start = weight.detach().double()
    total = torch.zeros_like(start)
    for change in changes:
        made = change_of(change.formula, weights.parts(change, start), start + total)
        total = total + change.factor * made
    return total


def fingerprint(parameter: Tensor) -> int:
    """Return a sum over the bits of a tensor: a change of any one element changes it."""
    bits = parameter.detach().view(_SAME_SIZE[parameter.element_size()])
    return int(bits.sum(dtype=torch.int64))


def _compared(
    name: str, changes: Sequence[ModuleChange], expected: Tensor, *, before: Tensor, after: Tensor
) -> AuditRow:
    """Return the row of a parameter; `expected` is float64. Large tensors are reused in place."""
    # Rounding of the sum to the model's dtype: half a unit in the last place of W_after, doubled.
    noise = after.double().abs_().mul_(torch.finfo(after.dtype).eps)
    noise += ARITHMETIC * float(before.abs().max())
    applied = after.double().sub_(before)
    largest, norm = float(expected.abs().max()), _norm(applied)
    if not math.isfinite(largest + norm):
        n_bad = int((~torch.isfinite(applied)).sum())
        return _row(name, changes, missing=True, non_finite=n_bad, reason="non-finite")
    is_changed = bool(applied.any())
    errors = applied.sub_(expected).abs_().sub_(noise)
    max_error = max(float(errors.max()), 0.0) / (largest or 1.0)
    reason = None
    if max_error > TOLERANCE:
        reason = "inexact" if is_changed else "not-applied"
    elif not largest:
        reason = "no-change"
    return _row(
        name,
        changes,
        expected=_norm(expected),
        applied=norm,
        missing=reason == "not-applied",
        max_error=max_error,
        reason=reason,
    )


def _finite(weights: PluginWeights) -> tuple[PluginWeights, list[AuditRow]]:
    """Leave out parameters whose tensors hold NaN or values beyond float16's; return their rows."""
    rows = []
    for name, changes in weights.by_target().items():
        keys = {
            key
            for change in changes
            for part, key in change.parts.items()
            if not (part == "alpha" and ignores_alpha(change))
        }
        n_bad = sum(_n_beyond(weights.tensors[key]) for key in keys)
        if n_bad:
            rows.append(_row(name, changes, missing=True, non_finite=n_bad, reason="non-finite"))
    return weights.without({row.module for row in rows}), rows


def _n_beyond(tensor: Tensor) -> int:
    return tensor.numel() - int((tensor.float().abs() <= LARGEST).sum())


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))


def _row(
    name: str,
    changes: Sequence[ModuleChange],
    *,
    expected: float | None = None,
    applied: float | None = None,
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
        expected=expected,
        applied=applied,
        missing=missing,
        non_finite=non_finite,
        max_error=max_error,
        reason=reason,
        detail=detail,
    )
