"""A model's license flags, parsed from all three shapes that Civitai's API has used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NOTHING = ("", "None", "none")


@dataclass(frozen=True)
class License:
    """Permissions of a plugin; None if the source does not state them.

    `name` is a license id such as a Hub card's "openrail"; the flags are Civitai's.
    """

    name: str | None = None
    allow_no_credit: bool | None = None
    allow_commercial_use: tuple[str, ...] | None = None
    allow_derivatives: bool | None = None
    allow_different_license: bool | None = None

    def describe(self) -> str:
        """Return one line for users."""
        words = [self.name] if self.name else []
        flags = (
            (self.allow_no_credit, "no credit needed", "credit needed"),
            (self.allow_derivatives, "derivatives allowed", "no derivatives"),
            (self.allow_different_license, "other license allowed", "same license"),
        )
        words += [yes if flag else no for flag, yes, no in flags if flag is not None]
        if self.allow_commercial_use is not None:
            uses = ", ".join(self.allow_commercial_use) or "none"
            words.append(f"commercial use: {uses}")
        return "; ".join(words) or "unknown"


def parse_commercial_use(value: object) -> tuple[str, ...] | None:
    """Parse "Sell", "{Image,RentCivit}" or ["Image"]; () for no use, None for unknown."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.strip().removeprefix("{").removesuffix("}").split(",")
    if not isinstance(value, list | tuple):
        return None
    words = (str(word).strip().strip('"') for word in value)
    return tuple(word for word in words if word not in _NOTHING)


def civitai_license(model: Mapping[str, Any]) -> License:
    """Return the flags of a model of the API; values other than booleans count as unknown."""

    def flag(key: str) -> bool | None:
        value = model.get(key)
        return value if isinstance(value, bool) else None

    return License(
        allow_no_credit=flag("allowNoCredit"),
        allow_commercial_use=parse_commercial_use(model.get("allowCommercialUse")),
        allow_derivatives=flag("allowDerivatives"),
        allow_different_license=flag("allowDifferentLicense"),
    )
