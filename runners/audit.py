"""The load audit: what a plugin's file asks for, and what arrived in the model.

"Expected" follows from the file alone: every key is used exactly once, with its target. "Applied"
is read from the model. Reason codes are those of `plugins_manifest.formats.reasons`. Imports no
torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from plugins_manifest.errors import UserError

_HARMLESS = (None, "no-change")  # a module that asks for no change: harmless, unless all do
_N_SHOWN = 4


@dataclass(frozen=True)
class AuditRow:
    """One parameter that the file changes, one thing it asks for in vain, or one unasked change.

    `expected` and `applied` are Frobenius norms of the change of the parameter at weight 1; None
    where there is no such change. `max_error` is the largest |applied - expected| of an element,
    beyond what rounding to the model's dtype explains, divided by the largest |expected|.
    `non_finite` counts elements. `reason` None: all is well.
    """

    module: str
    formula: str = ""
    n_keys: int = 0
    expected: float | None = None
    applied: float | None = None
    missing: bool = False
    extra: bool = False
    non_finite: int = 0
    max_error: float | None = None
    reason: str | None = None
    detail: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the model holds exactly what the file asks for here."""
        broken = self.missing or self.extra or self.non_finite > 0
        return not broken and self.reason in _HARMLESS


@dataclass(frozen=True)
class Audit:
    """All rows of one plugin in one model."""

    rows: tuple[AuditRow, ...]

    @property
    def n_expected(self) -> int:
        """Changes that the file asks for."""
        return sum(not row.extra for row in self.rows)

    @property
    def n_applied(self) -> int:
        """Changes that arrived as asked for."""
        return sum(row.is_ok for row in self.rows)

    @property
    def share(self) -> float:
        """Applied / expected; 0 for a file that asks for nothing, or changes nothing at all."""
        if not self.rows or all(row.reason == "no-change" for row in self.rows):
            return 0.0
        return self.n_applied / max(self.n_expected, 1)

    @property
    def is_complete(self) -> bool:
        """Whether everything arrived and nothing else did."""
        return self.share > 0 and all(row.is_ok for row in self.rows)

    @property
    def percent(self) -> str:
        """The share as text; "100" is said of complete audits alone."""
        return "100" if self.is_complete else f"{min(100 * self.share, 99.9):.1f}"

    def told(self) -> str:
        """One line, e.g. "32 of 192 changes applied (16.7 %): 160 unmatched-module (a, b, ...)"."""
        line = f"{self.n_applied} of {self.n_expected} changes applied ({self.percent} %)"
        return f"{line}: {why}" if (why := self.why()) else line

    def why(self) -> str:
        """What is wrong, by reason with the first names; empty where nothing is."""
        if self.rows and all(row.reason == "no-change" for row in self.rows):
            return "every change is zero"
        return "; ".join(f"{len(n)} {why} ({_shown(n)})" for why, n in self._broken().items())

    def _broken(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for row in self.rows:
            if not row.is_ok:
                name = f"{row.module}: {row.detail}" if row.detail else row.module
                groups.setdefault(row.reason or "broken", []).append(name)
        return groups


class PluginNotAppliedError(UserError):
    """A plugin of which the model would hold only a part; `audit` tells which.

    `plugin_id` is filled in by whoever loads a stack.
    """

    def __init__(self, message: str, audit: Audit, *, plugin_id: str | None = None) -> None:
        super().__init__(message)
        self.audit = audit
        self.plugin_id = plugin_id


def require_complete(audit: Audit, *, plugin_id: str, what: str, allow_partial: bool) -> None:
    """Raise `PluginNotAppliedError` under 100 %, unless a part is allowed and there is one.

    `what` names the file and the model for the message.
    """
    if audit.is_complete or (allow_partial and audit.share > 0):
        return
    fix = "use a file made for this model"
    if audit.share > 0:
        fix += ", or set allow_partial: true to render with the part that fits"
    raise PluginNotAppliedError(f"plugin {plugin_id!r}: {what}: {audit.told()}; {fix}", audit)


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _N_SHOWN} more" if len(listed) > _N_SHOWN else ""
    return ", ".join(listed[:_N_SHOWN]) + more
