"""`fit_file`: for which model a plugin file was made, and how much of it others would load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plugins_manifest.fits.advice import Situation, Upgrade, Verdict, advice
from plugins_manifest.fits.diffusers_loader import FileTraits, why_not_loaded
from plugins_manifest.fits.layers import PARTS, Layer, file_layers, file_parts
from plugins_manifest.fits.made_for import MadeFor, made_for_of_network, made_for_of_parts
from plugins_manifest.fits.targets import Target, all_targets
from plugins_manifest.formats import Header, Problem, parse, sd15_table
from plugins_manifest.formats.base_model import FilePart, fits_shapes, parameter_shapes
from plugins_manifest.formats.formulas import formulas
from plugins_manifest.formats.groups import Group
from plugins_manifest.formats.layouts import weight_layout
from plugins_manifest.formats.names import Names
from plugins_manifest.formats.parse import parser_of
from plugins_manifest.formats.side_files import read_plugin, weights_file
from plugins_manifest.formats.weight_parser import PARSER as WEIGHTS
from plugins_manifest.formats.weight_parser import grouped

_IN_PART = 0.5  # of the layers: below it a file counts as made for another model
_OF_MODEL = frozenset({"wrong-base", "bad-shape", "missing-key", "unmatched-module"})


@dataclass(frozen=True)
class Share:
    """How many layers load, of how many, and their share of the update's energy; None: unknown."""

    layers: int
    loaded: int
    energy: float | None


@dataclass(frozen=True)
class TargetFit:
    """A file on one model; `parts` has the parts of a model that the file changes.

    `other_shape` layers have the names of the model's and other shapes, `missing` ones no
    namesake. `diffusers` is why diffusers loads less than that; None where it does not.
    """

    target: Target
    verdict: Verdict
    words: str
    total: Share
    parts: dict[str, Share]
    other_shape: int
    missing: int
    diffusers: str | None
    advice: str


@dataclass(frozen=True)
class FileFit:
    """All findings about a file.

    `energy` is that of its update, None where the file alone does not determine it.
    """

    path: Path
    kind: str
    format: str
    formulas: dict[str, int]
    made_for: MadeFor | None
    energy: float | None
    targets: tuple[TargetFit, ...]
    problems: tuple[Problem, ...] = field(default_factory=tuple)


def fit_file(
    path: Path,
    *,
    on: Sequence[Target] = (),
    others: Sequence[Target] = (),
    upgrades: Sequence[Upgrade] = (),
    name: Path | None = None,
) -> FileFit:
    """Compare a file, or the one file of weights of a folder, with models.

    `on` are the models; by default the one that it was made for and those that `upgrades` lead to
    from it. `others` are models that are not in the catalog, `name` is the file's own path where
    `path` is a conversion of it. Nothing in the file is executed. Raises `UnsafeFile` for a file
    that is not well-formed safetensors, and `UserError` if it cannot be read.
    """
    path = weights_file(path)
    header = read_plugin(path)
    request = _Request(path, header, name or path, on, others, upgrades)
    if header.tensors and parser_of(header, sd15_table()) is WEIGHTS:
        return _fit_weights(request)
    return _fit_network(request)


@dataclass(frozen=True)
class _Request:
    """A file, and what it is compared with; `name` is the file as its user names it."""

    path: Path
    header: Header
    name: Path
    on: Sequence[Target]
    others: Sequence[Target]
    upgrades: Sequence[Upgrade]

    def targets(self, made_for: MadeFor | None) -> Sequence[Target]:
        return self.on or default_targets(made_for, self.others, self.upgrades)


def default_targets(
    made_for: MadeFor | None, others: Sequence[Target], upgrades: Sequence[Upgrade]
) -> list[Target]:
    """Return the model that a file was made for, and those that a family upgrades it to."""
    if made_for is None:
        return []
    own = made_for.target.base
    bases = {u.upgraded: None for u in upgrades if u.base == own != u.upgraded}
    by_base = {target.base: target for target in reversed(all_targets(others))}
    return [made_for.target, *(by_base[base] for base in bases if base in by_base)]


def _fit_weights(request: _Request) -> FileFit:
    found = file_parts(request.header)
    parts = [part for part, _ in found]
    made_for = made_for_of_parts(request.header, parts, request.others)
    reference = made_for.target if made_for else None
    names = reference.names if reference else Names({})
    layers = file_layers(
        request.path, request.header, found, names, reference.table if reference else {}
    )
    used = Counter(candidate.formula.name for _, candidate in found)
    traits = _traits(grouped(request.header)[0].values(), names, tuple(used))
    kinds = {formulas()[formula].kind for formula in used}
    targets = [
        _on_target(target, layers, made_for, request.upgrades, traits)
        for target in request.targets(made_for)
    ]
    return FileFit(
        path=request.name,
        kind="lycoris" if "lycoris" in kinds else "lora",
        format=traits.layout,
        formulas=dict(used),
        made_for=made_for,
        energy=_energy(layers),
        targets=tuple(targets),
    )


def _traits(groups: Collection[Group], names: Names, used: tuple[str, ...]) -> FileTraits:
    counts: Counter[str] = Counter()
    for group in groups:
        counts[weight_layout(group, names.resolve(group.module))] += group.n_keys
    return FileTraits(
        layout=counts.most_common(1)[0][0] if counts else "unknown",
        formulas=used,
        has_peft_keys=any("peft" in group.styles for group in groups),
        has_fused_attention=any(group.module.endswith("attention.qkv") for group in groups),
    )


def _on_target(
    target: Target,
    layers: Sequence[Layer],
    made_for: MadeFor | None,
    upgrades: Sequence[Upgrade],
    traits: FileTraits,
) -> TargetFit:
    states = {part: _state(part, target) for part in {layer.written for layer in layers}}
    loaded = [layer for layer in layers if states[layer.written] == "loads"]
    parts = {
        part: _share([x for x in layers if x.part == part], [x for x in loaded if x.part == part])
        for part in PARTS
        if any(layer.part == part for layer in layers)
    }
    counts = Counter(states[layer.written] for layer in layers)
    total = _share(layers, loaded)
    verdict = _verdict(total, is_own=made_for is not None and made_for.target.name == target.name)
    diffusers = why_not_loaded(target, traits, n_other_shape=counts["other-shape"])
    situation = Situation(
        target=target,
        made_for=made_for.target if made_for else None,
        verdict=verdict,
        n_layers=total.layers,
        loaded=total.loaded,
        other_shape=counts["other-shape"],
        is_network=False,
        diffusers=diffusers,
    )
    return TargetFit(
        target=target,
        verdict=verdict,
        words=_words(verdict, made_for, target),
        total=total,
        parts=parts,
        other_shape=counts["other-shape"],
        missing=counts["missing"],
        diffusers=diffusers,
        advice=advice(situation, upgrades),
    )


def _state(part: FilePart, target: Target) -> str:
    shapes = parameter_shapes(part, target.names.resolve(part.module), target.table)
    if not shapes:
        return "missing"
    return "loads" if fits_shapes(part.size, shapes) else "other-shape"


def _verdict(total: Share, *, is_own: bool) -> Verdict:
    if total.loaded == total.layers > 0:
        return "fits"
    is_part = total.loaded > 0 and (is_own or total.loaded >= _IN_PART * total.layers)
    return "in-part" if is_part else "does-not-fit"


def _words(verdict: Verdict, made_for: MadeFor | None, target: Target) -> str:
    if verdict == "fits":
        return "fits"
    if verdict == "in-part":
        return "fits in part"
    if made_for is None or made_for.target.name == target.name:
        return "does not fit"
    return f"does not fit: made for {made_for.target.title}"


def _share(layers: Sequence[Layer], loaded: Sequence[Layer]) -> Share:
    whole, part = _energy(layers), _energy(loaded)
    energy = part / whole if whole and part is not None else None
    return Share(len(layers), len(loaded), energy)


def _energy(layers: Sequence[Layer]) -> float | None:
    energies = [layer.energy for layer in layers]
    return None if None in energies else sum(e for e in energies if e is not None)


def _fit_network(request: _Request) -> FileFit:
    """Compare a network or an embedding: it is attached whole, or not at all."""
    header = request.header
    parsed = parse(header)
    own = next((t for t in request.others if not parse(header, t.table).problems), None)
    if parsed.problems and own is not None:
        parsed = parse(header, own.table)
        made_for = MadeFor(own, (f"its shapes are those of {own.title}",))
    else:
        made_for = made_for_of_network(header, parsed)
    targets = [
        _network_on(target, header, made_for, request.upgrades)
        for target in request.targets(made_for)
    ]
    return FileFit(
        path=request.name,
        kind=parsed.kind,
        format=parsed.format,
        formulas={},
        made_for=made_for,
        energy=None,
        targets=tuple(targets),
        problems=tuple(p for p in parsed.problems if p.reason not in _OF_MODEL),
    )


def _network_on(
    target: Target, header: Header, made_for: MadeFor | None, upgrades: Sequence[Upgrade]
) -> TargetFit:
    parsed = parse(header, target.table)
    n = len(header.tensors)
    is_own = made_for is not None and made_for.target.base == target.base
    is_misfit = any(problem.reason in _OF_MODEL for problem in parsed.problems)
    fits = is_own or (made_for is not None and not is_misfit and bool(parsed.other_keys))
    verdict: Verdict = "fits" if fits else "does-not-fit"
    total = Share(n, n if fits else 0, None)
    situation = Situation(
        target=target,
        made_for=made_for.target if made_for else None,
        verdict=verdict,
        n_layers=n,
        loaded=total.loaded,
        other_shape=0,
        is_network=True,
        diffusers=None,
    )
    return TargetFit(
        target=target,
        verdict=verdict,
        words=_words(verdict, made_for, target),
        total=total,
        parts={},
        other_shape=0,
        missing=0,
        diffusers=None,
        advice=advice(situation, upgrades),
    )
