"""The benchmark runs of a training: their manifest, checks before anything is loaded, requests.

Imports no torch, so that a recipe's mistakes are found at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import UserError, unknown_name
from bench.plan import Plan, Selection
from bench.plan.job import with_family_settings
from bench.plan.judges import with_default_metrics
from bench.plan.metrics import expand_metrics, selected_metrics
from bench.registry import find_method, installed, known_names
from bench.render import KeptModels
from bench.run import RunRequest, look_ahead, plan_run
from bench.train.schema import Recipe, ValidationSpec
from plugins_manifest.documents import Place
from plugins_manifest.schema import Manifest, load_manifest
from plugins_manifest.schema.load import check_manifest, find_manifest, shipped_manifests

FOLDER, BEST, FINAL = "validation", "best", "run"  # in a training's folder
ROLES = ("function", "text", "quality")
_REFERENCES = ("base", "floor")  # that the share of a plugin's effect lies between
_AT = ("validation",)


def section_problems(data: Mapping[str, Any], folder: Path) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with a recipe's validation beyond its own schema, with the places.

    `data` is the recipe as written in a file of `folder`.
    """
    raw = data.get("validation")
    given = raw.get("manifest") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(given, str | dict) or not given:
        return  # the schema reports it
    place = (*_AT, "manifest")
    try:
        manifest, problems = _parsed(given, data, folder)
    except UserError as error:
        for text in error.problems:
            yield place, f"validation.manifest: {text}"
        return
    for loc, text in problems:
        yield (*place, *loc), f"validation.manifest: {text}"
    with suppress(ValidationError):
        spec = ValidationSpec.model_validate(raw)
        if manifest is not None:
            yield from _selection_problems(spec, manifest, family=data.get("family"))


def _parsed(
    given: str | dict[str, Any], data: Mapping[str, Any], folder: Path
) -> tuple[Manifest | None, list[tuple[Place, str]]]:
    """Return the manifest, or None and its problems; those of a file are raised."""
    if isinstance(given, str):
        return load_manifest(located(given, folder), known=known_names()), []
    own = {key: data[key] for key in ("name", "family") if isinstance(data.get(key), str)}
    return check_manifest({"schema": 1, **own, **given}, known=known_names())


def located(manifest: str, folder: Path) -> str:
    """Return a shipped manifest's name, or the absolute path of a file below a recipe's folder.

    Raises `UserError` for what is neither.
    """
    path = folder / Path(manifest).expanduser()
    if manifest in shipped_manifests():
        return manifest
    return str(path.resolve() if path.is_file() else find_manifest(manifest).resolve())


def _selection_problems(
    spec: ValidationSpec, manifest: Manifest, *, family: object
) -> Iterator[tuple[Place, str]]:
    if isinstance(family, str) and manifest.family != family:
        text = f"validation.manifest: it is for the family {manifest.family!r}, the recipe trains "
        yield (*_AT, "manifest"), f"{text}{family!r}"
    chosen = selection_of(spec)
    unknown = chosen.unknown_plugins(manifest)
    for text in unknown:
        yield (*_AT, "plugins"), f"validation.plugins: {text}"
    if unknown:
        return
    applied = with_default_metrics(chosen.apply(with_family_settings(manifest)))
    for text in _score_problems(spec.score, applied):
        yield (*_AT, "score"), f"validation.score: {text}"


def _score_problems(score: str, manifest: Manifest) -> Iterator[str]:
    metrics = expand_metrics(selected_metrics(manifest), manifest)
    if score not in ROLES and score not in installed("metrics"):
        yield unknown_name("score", score, (*ROLES, *metrics))
    elif score not in ROLES and score not in metrics:
        yield f"{score!r} is not a metric of the manifest {manifest.name}: add it there"
    methods = {spec.name for spec in manifest.methods}
    if score == "function" and (missing := [name for name in _REFERENCES if name not in methods]):
        yield (
            f"'function' is the share of a plugin's effect between floor and base: add "
            f"{' and '.join(missing)} to the methods, or choose a metric"
        )


def selection_of(spec: ValidationSpec) -> Selection:
    """Return the part of the manifest that each validation renders."""
    return Selection(
        methods=spec.methods,
        t0=spec.t0,
        limit=spec.n_cases,
        seeds=spec.seeds,
        plugins=spec.plugins,
    )


def manifest_of(recipe: Recipe) -> Manifest:
    """Return the manifest of a loaded recipe's validation."""
    spec = validation_of(recipe)
    folder = recipe.path.parent if recipe.path is not None else Path.cwd()
    manifest, problems = _parsed(spec.manifest, recipe.as_data(), folder)
    if manifest is None:
        raise UserError.collect([f"validation.manifest: {text}" for _, text in problems])
    if isinstance(spec.manifest, dict) and recipe.path is not None:
        manifest.attach_path(recipe.path)
    return manifest


def validation_of(recipe: Recipe) -> ValidationSpec:
    """Return the section of a recipe that has one."""
    if recipe.validation is None:
        raise UserError(f"the recipe {recipe.name} has no section `validation`: add it")
    return recipe.validation


def validation_request(
    recipe: Recipe,
    *,
    out: Path | None = None,
    adapter: Path | None = None,
    device: str = "auto",
    models: KeptModels | None = None,
) -> RunRequest:
    """Return the run of one validation, with the mapper at `adapter`."""
    spec, manifest = validation_of(recipe), manifest_of(recipe)
    return RunRequest(
        spec.manifest if isinstance(spec.manifest, str) else manifest.name,
        replace(selection_of(spec), adapter=adapter),
        out,
        device=device,
        show_progress=False,
        loaded=manifest,
        models=models,
    )


def final_request(
    recipe: Recipe,
    out_dir: Path,
    *,
    adapter: Path | None = None,
    device: str = "auto",
    show_progress: bool = False,
) -> RunRequest | None:
    """Return the run at the end of a training in `out_dir`; None where the recipe has none.

    `adapter` None is the trained mapper.
    """
    if recipe.validation is None or recipe.validation.final == "none":
        return None
    found = validation_request(
        recipe, out=out_dir / FINAL, adapter=adapter or out_dir / "mapper", device=device
    )
    if recipe.validation.final == "manifest":
        found = replace(found, selection=Selection(adapter=found.selection.adapter))
    return replace(found, show_progress=show_progress)


def require_runs(recipe: Recipe, out_dir: Path, adapter: Path) -> None:
    """Plan the runs of a training with an untrained mapper, so that mistakes come before it.

    Raises `UserError` for what is missing or cannot run.
    """
    plan = plan_run(validation_request(recipe, out=out_dir / FOLDER / "0", adapter=adapter))
    if not mapper_methods(plan):
        raise UserError(
            f"validation: no method of {', '.join(sorted(plan.counts()))} uses a mapper: add "
            "xadapter to the methods of its manifest"
        )
    if (final := final_request(recipe, out_dir, adapter=adapter)) is not None:
        plan_run(final)


def identity_of(recipe: Recipe) -> dict[str, Any]:
    """Return what decides the images of each validation and the choice among them."""
    free = {"every", "patience", "final", "manifest"}
    spec = validation_of(recipe).model_dump(mode="json", exclude=free)
    return {**spec, "manifest": manifest_of(recipe).fingerprint()}


def mapper_methods(plan: Plan) -> tuple[str, ...]:
    """Return the methods of a plan whose images depend on the mapper."""
    return tuple(name for name in plan.counts() if find_method(name).uses_adapter)


def plans_of(recipe: Recipe) -> tuple[Plan, Plan, Plan | None]:
    """Return the plans of the first validation, of each later one, and of the run at the end.

    A later one renders only what depends on the mapper. Nothing is downloaded, and files may be
    missing.
    """
    request = validation_request(recipe)
    first = look_ahead(request)[0]
    own = replace(request.selection, methods=mapper_methods(first) or None)
    final = final_request(recipe, Path(), adapter=None)
    if final is not None:
        final = replace(final, selection=replace(final.selection, adapter=None))
    return (
        first,
        look_ahead(replace(request, selection=own))[0],
        None if final is None else look_ahead(final)[0],
    )
