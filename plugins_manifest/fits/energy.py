"""The energy of a change of a weight: the squared Frobenius norm of the update, from its factors.

The product is never formed. With U [o, r] and D [r, i], ||U D||^2 = tr((U^T U)(D D^T)): two
matrices of the rank's side. A LoHa is (U1 D1) * (U2 D2), elementwise, which is the product of the
row-wise Khatri-Rao product of U1, U2 with the column-wise one of D1, D2. A LoKr's norm is the
product of its factors' norms. The legend is that of `formats.formulas.spec`.

Updates that depend on the base model's weights (DoRA, OFT, BOFT, (IA)^3, GLoRA, saved weights)
have no energy that the file alone determines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Values = Mapping[str, Matrix]
_MOST_COLUMNS = 1024  # of a Khatri-Rao product; above it the LoHa is summed in pieces of rows
_ROWS = 64
_DECOMPOSED = ("dora_scale", "magnitude")


def needs_base(formula: str, parts: Mapping[str, object]) -> bool:
    """Return whether a change's energy cannot be computed without the base model's weights."""
    return formula not in _ENERGIES or any(part in parts for part in _DECOMPOSED)


def row_energies(formula: str, values: Values, rows: Sequence[int]) -> list[float]:
    """Return the energy of an update at scale 1, by consecutive groups of its rows.

    Only a LoRA is taken apart; the rows of all other formulas share the whole energy evenly.
    """
    with np.errstate(all="ignore"):
        if formula == "lora" and len(rows) > 1:
            bounds = np.cumsum(rows)[:-1]
            up, down = _flat(values["up"]), _flat(values["down"])
            return [_low_rank(part, down) for part in np.split(up, bounds)]
        whole = _ENERGIES[formula](values)
        return [whole * n / max(sum(rows), 1) for n in rows]


def _flat(tensor: Matrix) -> Matrix:
    return tensor.reshape(tensor.shape[0], -1)


def _low_rank(up: Matrix, down: Matrix) -> float:
    """Return ||U D||^2 as the sum of (U^T U) * (D D^T), both symmetric."""
    return float(np.vdot((up.T @ up).astype(np.float64), (down @ down.T).astype(np.float64)))


def _lora(values: Values) -> float:
    return _low_rank(_flat(values["up"]), _flat(values["down"]))


def _tucker(values: Values) -> float:
    """Sum over the kernel's positions; mid [r, r, k, k]."""
    up, down = _flat(values["up"]), _flat(values["down"])
    return sum(_low_rank(up @ core, down) for core in _cores(values["mid"]))


def _cores(mid: Matrix) -> Sequence[Matrix]:
    return list(np.moveaxis(mid.reshape(*mid.shape[:2], -1), 2, 0))


def _full(values: Values) -> float:
    return float(np.square(values["diff"], dtype=np.float64).sum())


def _loha(values: Values) -> float:
    one, two = ((values[f"w{n}_a"], _flat(values[f"w{n}_b"])) for n in (1, 2))
    if "t1" not in values:
        return _hadamard(one, two)
    pairs = zip(_cores(values["t1"]), _cores(values["t2"]), strict=True)
    return sum(
        _hadamard((one[0].T @ core1, one[1]), (two[0].T @ core2, two[1])) for core1, core2 in pairs
    )


def _hadamard(one: tuple[Matrix, Matrix], two: tuple[Matrix, Matrix]) -> float:
    """Return ||(A1 B1) * (A2 B2)||^2."""
    (a1, b1), (a2, b2) = one, two
    if a1.shape[1] * a2.shape[1] <= _MOST_COLUMNS:
        left = (a1[:, :, None] * a2[:, None, :]).reshape(len(a1), -1)
        right = (b1[:, None, :] * b2[None, :, :]).reshape(-1, b1.shape[1])
        return _low_rank(left, right)
    pieces = range(0, len(a1), _ROWS)
    rows = ((a1[i : i + _ROWS] @ b1) * (a2[i : i + _ROWS] @ b2) for i in pieces)
    return sum(float(np.square(piece, dtype=np.float64).sum()) for piece in rows)


def _lokr(values: Values) -> float:
    return _factor(values, "w1") * _factor(values, "w2")


def _factor(values: Values, name: str) -> float:
    """Return the squared norm of a factor: whole, low-rank, or with a core t2 [r, r, k, k]."""
    if name in values:
        return _full({"diff": values[name]})
    a, b = values[f"{name}_a"], _flat(values[f"{name}_b"])
    if name == "w2" and "t2" in values:
        return sum(_low_rank(a.T @ core, b) for core in _cores(values["t2"]))
    return _low_rank(_flat(a), b)


_ENERGIES: Mapping[str, Callable[[Values], float]] = {
    "lora": _lora,
    "lora-tucker": _tucker,
    "lora-bias": _full,
    "full": _full,
    "norm": _full,
    "loha": _loha,
    "lokr": _lokr,
}
