"""The family `pocket`: tiny trained models that ship with the project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plugins_manifest.errors import UserError
from runners.base import MapperProblem

if TYPE_CHECKING:
    from runners.families.family import Family


@dataclass(frozen=True)
class PocketFamily:
    """Source of the family `pocket`; its parts are hash-checked by `pocket.weights`."""

    name: str = "pocket"

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Hashes of the parts base, upgraded and mapper."""
        from pocket.weights import folder_sha256, part_sha256

        if adapter is not None and not adapter.exists():
            raise UserError(f"there is no mapper at {str(adapter)!r}: check the path")
        with _as_user_error():
            parts = {name: part_sha256(name) for name in ("base", "upgraded")}
            parts["mapper"] = part_sha256("mapper") if adapter is None else folder_sha256(adapter)
        return parts

    def mapper_problem(self, adapter: Path | None) -> MapperProblem | None:
        """Return None: a trained mapper ships with the family."""
        return None

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load from the project's own weights, nothing is downloaded."""
        from pocket.weights import part_path
        from runners.families.family import load_from_folders

        with _as_user_error():
            folders = {name: part_path(name) for name in ("base", "upgraded")}
            mapper = part_path("mapper") if adapter is None else adapter
        return load_from_folders(self.name, **folders, mapper=mapper, device=device, dtype=dtype)


@contextmanager
def _as_user_error() -> Iterator[None]:
    """Weights that are missing or changed are the user's to restore."""
    from pocket.weights import WeightsError

    try:
        yield
    except WeightsError as error:
        raise UserError(str(error)) from error


POCKET = PocketFamily()
