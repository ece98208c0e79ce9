"""Formulas of weight changes, one file each: keys, parts and sizes. The math: `runners.weights`."""

from plugins_manifest.formats.formulas.registry import formulas, split_key
from plugins_manifest.formats.formulas.spec import FormulaSpec, KeyPart, Shapes, Size, flat, require

__all__ = [
    "FormulaSpec",
    "KeyPart",
    "Shapes",
    "Size",
    "flat",
    "formulas",
    "require",
    "split_key",
]
