"""The load audit: the changes in a plugin's file compared with those in the model.

"Expected" follows from the file alone: every key is used exactly once, with its target. "Applied"
is read from the model. Reason codes are those of `plugins_manifest.formats.reasons`. Imports no
torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from plugins_manifest.errors import UserError
from plugins_manifest.text import shortened

_HARMLESS = (None, "no-change")  # harmless in some modules, not in all of them


@dataclass(frozen=True)
class AuditRow:
    """A parameter that the file changes, a key that changes nothing, or an unexpected change.

    `expected` and `applied` are Frobenius norms of the change of the parameter at weight 1; None
    where there is no such change. `max_error` is the largest |applied - expected| of an element,
    beyond rounding to the model's dtype, divided by the largest |expected|.
    `non_finite` counts elements. `reason` is None where nothing is wrong.
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
        """Return whether the model holds exactly the expected change."""
        broken = self.missing or self.extra or self.non_finite > 0
        return not broken and self.reason in _HARMLESS


@dataclass(frozen=True)
class Audit:
    """All rows of one plugin in one model."""

    rows: tuple[AuditRow, ...]

    @property
    def n_expected(self) -> int:
        """Count the changes in the file."""
        return sum(not row.extra for row in self.rows)

    @property
    def n_applied(self) -> int:
        """Count the changes that the model holds as expected."""
        return sum(row.is_ok for row in self.rows)

    @property
    def share(self) -> float:
        """Return applied / expected; 0 for a file without changes, or with zero changes alone."""
        if not self.rows or all(row.reason == "no-change" for row in self.rows):
            return 0.0
        return self.n_applied / max(self.n_expected, 1)

    @property
    def is_complete(self) -> bool:
        """Return whether the model holds every expected change and no other."""
        return self.share > 0 and all(row.is_ok for row in self.rows)

    @property
    def percent(self) -> str:
        """Return the share as text; "100" for complete audits only."""
        return "100" if self.is_complete else f"{min(100 * self.share, 99.9):.1f}"

    def summary(self) -> str:
        """Return one line: "32 of 192 changes applied (16.7 %): 160 unmatched-module (a, b)"."""
        line = f"{self.n_applied} of {self.n_expected} changes applied ({self.percent} %)"
        return f"{line}: {why}" if (why := self.why()) else line

    def why(self) -> str:
        """Return the problems by reason, with the first names; empty without problems."""
        if self.rows and all(row.reason == "no-change" for row in self.rows):
            return "every change is zero"
        return "; ".join(f"{len(n)} {why} ({shortened(n)})" for why, n in self._broken().items())

    def _broken(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for row in self.rows:
            if not row.is_ok:
                name = f"{row.module}: {row.detail}" if row.detail else row.module
                groups.setdefault(row.reason or "broken", []).append(name)
        return groups


class PluginNotAppliedError(UserError):
    """The model would hold only a part of a plugin; `audit` has the missing ones.

    `plugin_id` is filled in where a stack is loaded.
    """

    def __init__(self, message: str, audit: Audit, *, plugin_id: str | None = None) -> None:
        super().__init__(message)
        self.audit = audit
        self.plugin_id = plugin_id


def require_complete(audit: Audit, *, plugin_id: str, what: str, allow_partial: bool) -> None:
    """Raise `PluginNotAppliedError` below 100 %, unless `allow_partial` and a part is applied.

    `what` names the file and the model in the message.
    """
    if audit.is_complete or (allow_partial and audit.share > 0):
        return
    fix = "use a file made for this model"
    if audit.share > 0:
        fix += ", or set allow_partial: true to render with the part that fits"
    raise PluginNotAppliedError(f"plugin {plugin_id!r}: {what}: {audit.summary()}; {fix}", audit)
