"""The models that a file is compared with: those of the catalog, and others by their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.formats import ModuleTable
from plugins_manifest.formats.catalog import BY_NAME, CATALOG, CatalogModel
from plugins_manifest.formats.names import Names, names_of
from plugins_manifest.formats.table import model_table


@dataclass(frozen=True)
class Target:
    """A model to compare with: the word for it, its title, its parameters.

    `known` is its entry in the catalog; None for a model of a family that is not in it.
    """

    name: str
    title: str
    table: ModuleTable
    known: CatalogModel | None = None

    @property
    def base(self) -> str:
        """The name of its shapes, as `ParsedPlugin.base_model` has it."""
        return self.name if self.known is None else self.known.label or self.known.name

    @property
    def note(self) -> str:
        """What a reader should know about its shapes."""
        return "" if self.known is None else self.known.note

    @cached_property
    def names(self) -> Names:
        """All names of its modules."""
        return names_of(self.table)


def catalog_target(word: str, others: Sequence[Target] = ()) -> Target:
    """Return the model of a word, such as `sdxl`, `sd1` or `pony`.

    Raises `UserError` with the nearest words for an unknown one.
    """
    for target in others:
        if target.name == word.lower():
            return target
    known = BY_NAME.get(word.lower())
    if known is None:
        words = [*BY_NAME, *(target.name for target in others)]
        raise UserError(unknown_name("model", word, words))
    twin = known.twins.get(word.lower())
    name = word.lower() if twin else known.name
    return Target(name, twin or known.title, model_table(known.name), known)


def all_targets(others: Sequence[Target] = ()) -> list[Target]:
    """Return every model of the catalog, then the others."""
    return [*(catalog_target(model.name) for model in CATALOG), *others]
