"""The model that a file was made for, with the evidence; metadata never outweighs the tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from plugins_manifest.fits.targets import Target, catalog_target
from plugins_manifest.formats import Header, ParsedPlugin, sd15_table
from plugins_manifest.formats.base_model import FilePart, base_of, n_fitting
from plugins_manifest.formats.table import BASES
from plugins_manifest.outputs import escaped_line

_STATEMENTS = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name")
_LONGEST = 60
_N_GROUPS = 2
_PREFIX = re.compile(r"(?:base_model\.model\.)?(?:lora_(?:unet|transformer)_|lora_te\d?_)?")
_BLOCK = re.compile(r"(?:^|[._])((?:[a-z]+_)?(?:blocks|layers))[._]\d")
_FEWEST_WEIGHTS = 8


@dataclass(frozen=True)
class MadeFor:
    """The model, the evidence in sentences, and the names of other models that fit as well."""

    target: Target
    evidence: tuple[str, ...]
    also: tuple[str, ...] = field(default_factory=tuple)


def made_for_of_parts(
    header: Header, parts: Sequence[FilePart], others: Sequence[Target]
) -> MadeFor | None:
    """Return the model that most parts of a file fit; None if none of them fits any."""
    table = sd15_table()
    base = base_of(parts, catalog_target("sd15").names, table)
    target = catalog_target(BASES[base.name]) if base.name in BASES else None
    best = 0 if target is None else n_fitting(parts, target.names, target.table)
    for other in others:
        if (n := n_fitting(parts, other.names, other.table)) > best:
            target, best = other, n
    if target is None:
        return None
    also = base.also if target.known is not None else ()
    named = ", ".join(_groups(part.module for part in parts))
    evidence = [
        f"{best} of {len(parts)} changed layers have the names and shapes of {target.title}"
        + (f" ({named})" if named else ""),
        *_widths(parts, base.cross_dim, target),
        *_statements(header.metadata),
    ]
    return MadeFor(target, tuple(evidence), tuple(also))


def made_for_of_network(header: Header, parsed: ParsedPlugin) -> MadeFor | None:
    """Return the base model of a network or an embedding, by its shapes."""
    if parsed.base_model in BASES:
        target = catalog_target(BASES[parsed.base_model])
        return MadeFor(target, (f"its shapes are those of {target.title}",))
    return _by_weights(header)


def _by_weights(header: Header) -> MadeFor | None:
    """Return the model of which a file copies most layers, in names and shapes."""
    best: tuple[int, Target | None] = (0, None)
    for name in BASES.values():
        target = catalog_target(name)
        prefixes = {key.partition(".")[0] + "." for key in target.table}
        n = sum(
            any(target.table.get(prefix + key) == info.shape for prefix in (*prefixes, ""))
            for key, info in header.tensors.items()
        )
        if n > best[0]:
            best = (n, target)
    n, target = best
    if target is None or n < _FEWEST_WEIGHTS:
        return None
    return MadeFor(target, (f"{n} tensors have the names and shapes of {target.title}'s own",))


def _groups(modules: Iterator[str] | Sequence[str]) -> list[str]:
    """Return the most common kinds of blocks with their numbers of layers."""
    bare = (_PREFIX.sub("", module, count=1) for module in modules)
    counts = Counter(match[1] for module in bare if (match := _BLOCK.search(module)))
    return [f"{n} in {name}" for name, n in counts.most_common(_N_GROUPS)]


def _widths(parts: Sequence[FilePart], cross_dim: int | None, target: Target) -> list[str]:
    if cross_dim is not None:
        return [f"its cross-attentions read text of width {cross_dim}"]
    widths = Counter(p.size.n_in_flat for p in parts if p.size.n_in_flat)
    if not widths or target.known is None or target.known.architecture == "unet":
        return []
    return [f"most layers read features of width {widths.most_common(1)[0][0]}"]


def _statements(metadata: Mapping[str, str]) -> list[str]:
    """Return what the trainer wrote; of use to a reader, but never decisive."""
    stated = [(name, metadata[name]) for name in _STATEMENTS if metadata.get(name)]
    return [f"metadata {name} = {escaped_line(text, longest=_LONGEST)}" for name, text in stated]
