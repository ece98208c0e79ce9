"""What a formula of weight changes is made of, for group `xbench.formulas`."""

from plugins_manifest.formats.formulas import FormulaSpec, KeyPart, Shapes, Size, flat, require

__all__ = ["FormulaSpec", "KeyPart", "Shapes", "Size", "flat", "require"]
