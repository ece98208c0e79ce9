"""The scale of each change whose alpha is not among the file's keys.

First PEFT's settings (beside the file, or in its metadata), then what kohya's trainers state; with
neither, alpha is the rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plugins_manifest.formats.groups import Candidate
from plugins_manifest.formats.kohya_settings import KohyaSettings, read_kohya_settings
from plugins_manifest.formats.names import Name
from plugins_manifest.formats.parsed import Header, Problem
from plugins_manifest.formats.peft_settings import FAMILIES, AllSettings, read_settings
from plugins_manifest.formats.table import TEXT, TEXT_2, UNET

_MAGNITUDES = ("magnitude", "dora_scale")
_TEXT_LEVEL = "text_model."


@dataclass
class Scales:
    """The scales of one file; `problems` and `notes` are filled while it is read."""

    header: Header
    peft: AllSettings
    kohya: KohyaSettings
    problems: dict[str, Problem] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, header: Header) -> Scales:
        """Read the settings of a file."""
        peft = read_settings(header)
        has_alpha = any(key.endswith(".alpha") for key in header.tensors)
        kohya = KohyaSettings() if has_alpha else read_kohya_settings(header.metadata)
        problems = {problem.message: problem for problem in peft.problems}
        return cls(header, peft, kohya, problems)

    def of_change(self, candidate: Candidate, name: Name) -> tuple[float | None, float]:
        """Return (alpha, factor) of a change: alpha None where its keys or its rank decide."""
        rank = _rank(candidate, self.header)
        if rank is not None:
            self.ranks.setdefault(candidate.module, rank)
        if not candidate.formula.reads_settings or "alpha" in candidate.parts:
            return None, 1.0
        scale = self._from_peft(candidate, name, rank)
        if scale is None and rank is not None:
            scale = self._from_kohya(candidate, name, rank)
        if scale is None:
            return None, 1.0
        return (None, scale) if rank is None else (scale * rank, 1.0)

    def _from_peft(self, candidate: Candidate, name: Name, rank: int | None) -> float | None:
        module = name.module or ""
        settings = self.peft.of(module)
        family = candidate.formula.family
        if settings is None or family not in (*FAMILIES.values(), "lora-bias"):
            if name.is_raw and family in FAMILIES.values():
                self.notes[
                    "PEFT's keys without its adapter_config.json: applied at scale 1, as if "
                    "lora_alpha were r; give the folder as PEFT saved it"
                ] = None
            return None
        if family.removesuffix("-bias") != settings.family:
            self._refuse(f"{settings.source} is for a {settings.family}, the file has a {family}")
            return None
        if settings.is_dora and family == "lora" and not _is_decomposed(candidate):
            self._refuse(
                f"{settings.source} has use_dora, the file has no magnitudes for "
                f"{candidate.module}: fetch it again"
            )
        try:
            return settings.scale(
                _names(name), self.ranks.get(candidate.module) if rank is None else rank
            )
        except ValueError as error:
            self._refuse(str(error))
            return None

    def _from_kohya(self, candidate: Candidate, name: Name, rank: int) -> float | None:
        if self.kohya.linear is None or not name.prefix.startswith(("lora_", "lycoris_")):
            return None
        kernel = candidate.size(self.header.tensors).kernel or ()
        scale = self.kohya.scale(is_wide=math.prod(kernel) > 1, rank=rank)
        if scale is None:
            self.notes[
                "no alpha among the tensors, and the metadata state another rank: applied at scale "
                "1, as if alpha were the rank"
            ] = None
        elif scale != 1:
            alpha = scale * rank
            self.notes[
                f"no alpha among the tensors: applied at ss_network_alpha {alpha:g} of rank {rank} "
                f"as the metadata state (scale {scale:g})"
            ] = None
        return scale

    def _refuse(self, why: str) -> None:
        self.problems.setdefault(why, Problem("bad-config", why))


def _rank(candidate: Candidate, header: Header) -> int | None:
    parts: Mapping[str, str] = candidate.parts
    key = next((parts[part] for part in candidate.formula.rank_parts if part in parts), None)
    return None if key is None else header.tensors[key].shape[0]


def _is_decomposed(candidate: Candidate) -> bool:
    return any(part in candidate.parts for part in _MAGNITUDES)


def _names(name: Name) -> Sequence[str]:
    """Return a module's names in its own model, to match patterns with."""
    module = name.module or ""
    side = next((side for side in (UNET, TEXT_2, TEXT) if module.startswith(side)), "")
    own = module.removeprefix(side)
    names = (name.bare, own, _TEXT_LEVEL + own) if side != UNET else (name.bare, own)
    return tuple(dict.fromkeys(names))
