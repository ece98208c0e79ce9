"""Train by a recipe: the models, the data, the mapper, and the record of what was trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from bench.errors import UserError, disk_error
from bench.train.data import n_images_of, opened_data
from bench.train.mappers import build_mapper
from bench.train.models import Models, fingerprint, load_models
from bench.train.pictures import Note
from bench.train.schema import PicturesData, Recipe
from bench.train.survey import Surveyed, survey_of
from bench.train.validation import identity_of, require_runs
from bench.train.validator import BenchmarkValidator, with_best, write_mapper
from plugins_manifest.documents import read_json
from plugins_manifest.files import atomic_write
from plugins_manifest.progress import Progress
from xadapter.checkpoint import locked, stored_settings
from xadapter.errors import SettingError, XAdapterError
from xadapter.processes import Processes, joined
from xadapter.trackers import require_trackers
from xadapter.train import TrainResult, train_mapper
from xadapter.train_settings import TrainSettings
from xadapter.validation import Validator, read_validations

RECORD = "recipe.json"
# a run goes on only with the same of these; `TrainSettings` compares the others
_IDENTITY = ("family", "size", "data", "mapper", "models", "images")


def train_recipe(
    recipe: Recipe,
    *,
    out_dir: Path,
    device: str = "cpu",
    data_dir: Path | None = None,
    progress: bool = True,
    validate: Validator | None = None,
    validate_every: int | None = None,
    stop_after: int | None = None,
    note: Note = lambda text: None,
    check: Callable[[Path], None] | None = None,
) -> TrainResult:
    """Train the mapper of a recipe in `out_dir`; the same call resumes it.

    Started by `accelerate launch` or with `xbench train --processes`, every process calls it and
    trains on its part of each batch. What the data source makes is kept in `data_dir` (default
    `out_dir/data`). `validate`, every `validate_every` steps, replaces the recipe's validation;
    `check` gets the untrained mapper's folder first, `note` gets lines for the user. Returns the
    averaged mapper in `out_dir/mapper`, with a validation by the recipe that of the best step.
    Raises `UserError` for what a user can repair.

    >>> from bench.train import load_recipe, train_recipe  # doctest: +SKIP
    >>> train_recipe(load_recipe("pocket", {"schedule.steps": 100}), out_dir=Path("mapper"))
    """
    folder = data_dir or out_dir / "data"
    own = recipe.validation if validate is None else None
    try:
        require_trackers(recipe.log.trackers)
        with joined(device) as processes, ExitStack() as stack:
            _require_parts(recipe, processes)
            processes.on_main(lambda: stack.enter_context(locked(out_dir)))
            surveyed = _survey(recipe, folder, processes)
            n_images = len(surveyed[1].photos) if surveyed else n_images_of(recipe)
            every = own.every if own else validate_every
            settings = settings_of(recipe, n_images=n_images, validate_every=every)
            processes.on_main(lambda: _record(recipe, settings, out_dir, surveyed))
            models, mapper = _loaded(recipe, device=str(processes.device))
            if own is not None or check is not None:
                processes.on_main(lambda: _check_runs(recipe, mapper, out_dir, check))
            if own is not None:
                device = processes.device.type
                validate = BenchmarkValidator(recipe, out_dir, models, device=device, note=note)
            n_steps = settings.steps if stop_after is None else min(stop_after, settings.steps)
            run_facts: Any = {"processes": processes, "surveyed": surveyed, "n_steps": n_steps}
            opened = opened_data(recipe, models, folder, note=note, **run_facts)
            alphas_cumprod, base_alphas_cumprod = models.schedules()
            result = train_mapper(
                mapper,
                base_unet=models.base_unet,
                upgraded_unet=models.upgraded_unet,
                upgraded_null=models.upgraded_text([""]),
                data=stack.enter_context(opened),
                alphas_cumprod=alphas_cumprod,
                base_alphas_cumprod=base_alphas_cumprod,
                prediction=models.prediction,
                base_null=models.base_text([""]),
                settings=settings,
                out_dir=out_dir,
                processes=processes,
                progress=progress,
                validate=validate,
                trackers=recipe.log.trackers,
                stop_after=stop_after,
            )
            return result if own is None else with_best(out_dir, result, processes)
    except XAdapterError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise disk_error(error, out_dir) from error


def _require_parts(recipe: Recipe, processes: Processes) -> None:
    """Refuse a batch that cannot be divided, before gigabytes are loaded."""
    processes.rows_of(range(recipe.optimizer.micro_batch or recipe.optimizer.batch))


def _loaded(recipe: Recipe, *, device: str) -> tuple[Models, nn.Module]:
    """Return the models of a recipe, and a new mapper between them."""
    with Progress("loading the models"):
        models = load_models(recipe, device=device)
        unets = models.base_unet, models.upgraded_unet
        return models, build_mapper(recipe.mapper, *unets, seed=recipe.seed)


def _check_runs(
    recipe: Recipe, mapper: nn.Module, out_dir: Path, check: Callable[[Path], None] | None
) -> None:
    """Plan the runs of the training with its untrained mapper."""
    with Progress("checking the validation"), TemporaryDirectory() as folder:
        adapter = Path(folder) / "mapper"
        write_mapper(mapper, adapter)
        try:
            if recipe.validation is not None:
                require_runs(recipe, out_dir, adapter)
            if check is not None:
                check(adapter)
        except UserError as error:
            here, later = str(adapter), str(out_dir / "mapper")  # `here` is gone in a moment
            if here not in str(error):
                raise
            problems = [problem.replace(here, later) for problem in error.problems]
            raise UserError(str(error).replace(here, later), problems) from error


def settings_of(
    recipe: Recipe, *, n_images: int, validate_every: int | None = None
) -> TrainSettings:
    """Return the trainer's settings of a recipe; epochs are of `n_images`."""
    objective, optimizer, schedule = recipe.objective, recipe.optimizer, recipe.schedule
    batch = optimizer.micro_batch or optimizer.batch
    return TrainSettings(
        steps=_n_steps(recipe, n_images),
        batch_size=batch,
        accumulation_steps=optimizer.batch // batch,
        learning_rate=optimizer.learning_rate,
        weight_decay=optimizer.weight_decay,
        betas=optimizer.betas,
        grad_clip=optimizer.grad_clip,
        ema_decay=optimizer.ema,
        schedule=schedule.kind,
        warmup_share=schedule.warmup_share,
        weighting=objective.weighting,
        min_snr_gamma=objective.gamma,
        timestep_range=objective.timesteps,
        range_share=objective.timesteps_share,
        upgraded_text=objective.upgraded_text,
        null_prompt_share=objective.null_prompt_share,
        precision=recipe.precision.dtype,
        gradient_checkpointing=recipe.precision.gradient_checkpointing,
        log_every_steps=recipe.log.every,
        checkpoint_every_steps=recipe.checkpoint_every,
        validate_every_steps=validate_every,
        seed=recipe.seed,
    )


def _n_steps(recipe: Recipe, n_images: int) -> int:
    schedule = recipe.schedule
    if schedule.steps is not None:
        return schedule.steps
    assert schedule.epochs is not None, "one of the two is given"
    return max(1, round(schedule.epochs * n_images / recipe.optimizer.batch))


def _survey(recipe: Recipe, folder: Path, processes: Processes) -> Surveyed | None:
    """Survey the pictures of a recipe on rank 0; the others read what it kept."""
    if not isinstance(recipe.data, PicturesData):
        return None
    found: list[Surveyed] = []
    processes.on_main(lambda: found.append(survey_of(recipe, folder)))
    return found[0] if found else survey_of(recipe, folder)


def _record(
    recipe: Recipe, settings: TrainSettings, out_dir: Path, surveyed: Surveyed | None
) -> None:
    """Write the recipe of a locked folder; `SettingError` if another one was trained there.

    Of pictures it has the hash, since a folder of the same name may have others later.
    """
    data = {**recipe.as_data(), "models": fingerprint(recipe)}
    if recipe.validation is not None:
        data["validated"] = identity_of(recipe)
    if surveyed is not None:
        data["images"] = surveyed[1].sha256
    path, began_with = out_dir / RECORD, stored_settings(out_dir)
    if path.exists() and began_with is not None:
        stored: Mapping[str, Any] = read_json(path)
        differing = [key for key in _IDENTITY if stored.get(key) != data.get(key)]
        own = (None, stored.get("validated"))
        if read_validations(out_dir) and data.get("validated") not in own:
            differing.append("validation")  # scores of other images do not compare
        if differing:
            fix = "the recipe in its recipe.json"
            if differing == ["images"]:  # the recipe has the same data
                fix = "restore the pictures and captions that it began with"
            raise SettingError(
                f"{out_dir} contains a training with other {' and '.join(differing)}: choose "
                f"another --out, or {fix}"
            )
    if began_with is not None and (changed := settings.differing(began_with)):
        raise SettingError(
            f"{out_dir} contains a training with other settings ({', '.join(changed)}): choose "
            "another --out, or the recipe in its recipe.json"
        )
    atomic_write(path, json.dumps(data, indent=2) + "\n")
