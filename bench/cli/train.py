"""`xbench train`: train a mapper by a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.gate import policy_option, prepare_gate, show_gate
from bench.cli.gpus import gpu_options
from bench.cli.output import echo, echo_json, echo_lines, is_quiet, json_option, note
from bench.cli.results import show_outcome
from bench.errors import UserError, shown_path
from plugins_manifest.extras import require_extra
from plugins_manifest.folders import refuse_others
from plugins_manifest.progress import Progress
from plugins_manifest.schema.words import MAX_SEED
from xadapter.launched import is_launched, launched_rank

if TYPE_CHECKING:
    from bench.plan.gpus import Gpus
    from bench.run import RunRequest
    from bench.train import Recipe

# what the names of files in a training folder begin with
_TRAINED = (
    *("best", "checkpoint", "data", "mapper", "metrics.jsonl", "recipe", "run", "trackers"),
    "validation",
)


@click.command()
@click.argument("recipe", required=False, metavar="[RECIPE]")
@click.option("--family", help="Train by the shipped recipe of this family, in place of RECIPE.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps [the recipe's].")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), help="[the recipe's]")
@click.option("--out", type=click.Path(path_type=Path), help="Output folder [mappers/NAME].")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the recipe: --set optimizer.batch=8.",
)
@click.option(
    "--checkpoint-every", type=click.IntRange(min=1), metavar="STEPS", help="[the recipe's]"
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Train in N processes of this machine, one for each GPU [1].",
)
@click.option(
    "--baseline",
    metavar="RUN|URL",
    help="Compare the run at the end with this one; exit with the gate's code.",
)
@policy_option
@click.option("--dry-run", is_flag=True, help="Print steps, time, memory and disk; train nothing.")
@gpu_options
@json_option
def train(
    *,
    recipe: str | None,
    family: str | None,
    out: Path | None,
    device: str,
    processes: int | None,
    baseline: str | None,
    policy: Path | None,
    dry_run: bool,
    gpus: Gpus | None,
    as_json: bool,
    overrides: Sequence[str],
    **own: int | None,
) -> None:
    """Train a mapper by RECIPE; the same command resumes.

    RECIPE is a file or a shipped one: pocket (default), pocket-v, paper-sdxl, sdxl, sd21. Use
    the mapper with: xbench run --adapter OUT/mapper. A recipe with a `validation` ends with a run
    in OUT/run; with --baseline the exit codes are those of `xbench gate`.
    """
    from bench.train import load_recipe

    name = _recipe_name(recipe, family)
    chosen = load_recipe(name, _overrides(overrides, **own))
    out = out or Path("mappers") / chosen.name
    refuse_others(out, _TRAINED)
    require_extra("render")
    if dry_run:
        _show_cost(chosen, out, n_processes=processes, gpus=gpus, as_json=as_json)
        return
    if gpus is not None:
        raise click.UsageError("--gpu, --gpus and --tflops need --dry-run")
    if policy is not None and baseline is None:
        raise click.UsageError("--policy needs a --baseline")
    is_first = launched_rank() == 0  # the others neither run nor compare
    compared = _opened_baseline(baseline, chosen) if baseline is not None and is_first else None
    if processes is not None and processes > 1 and not is_launched():
        words = _words(name, overrides, own, out=out, device=device, as_json=as_json)
        words += [] if baseline is None else [f"--baseline={baseline}"]
        words += [] if policy is None else [f"--policy={policy}"]
        from bench.train.launch import launch

        if code := launch(words, n_processes=processes):
            finish(code)
        return
    _train(chosen, out, device=device, as_json=as_json, compared=compared, policy=policy)


def _opened_baseline(baseline: str, recipe: Recipe) -> Path:
    """Return the run directory of a baseline, for a recipe that ends with a run."""
    from bench.gate import open_baseline

    if recipe.validation is None or recipe.validation.final == "none":
        raise UserError(
            "--baseline needs a run at the end: give the recipe a section `validation`, with final "
            "manifest or same"
        )
    return open_baseline(baseline)


def _recipe_name(recipe: str | None, family: str | None) -> str:
    if recipe is not None and family is not None:
        raise click.UsageError("--family excludes RECIPE: give one of them")
    if recipe is not None or family is None:
        return recipe or "pocket"
    from bench.train import load_recipe, shipped_recipes

    found = {load_recipe(name).family: name for name in reversed(shipped_recipes())}
    if family not in found:
        known = ", ".join(sorted(map(str, found)))
        raise UserError(f"no recipe is shipped for the family {family!r}: use {known}, or a file")
    return found[family]


def _overrides(texts: Sequence[str], **own: int | None) -> dict[str, Any]:
    """Return what replaces values of the recipe: --set, then the options of their own."""
    from bench.train import parse_overrides

    found = parse_overrides(texts)
    if "schedule.steps" in found:
        found.setdefault("schedule.epochs", None)
    if "schedule.epochs" in found and found["schedule.epochs"] is not None:
        found.setdefault("schedule.steps", None)
    if own["steps"] is not None:
        found |= {"schedule.steps": own["steps"], "schedule.epochs": None}
    for key in ("seed", "checkpoint_every"):
        if own[key] is not None:
            found[key] = own[key]
    return found


def _words(
    name: str,
    overrides: Sequence[str],
    own: Mapping[str, int | None],
    *,
    out: Path,
    device: str,
    as_json: bool,
) -> list[str]:
    """Return the command of each process."""
    options = [f"--{key.replace('_', '-')}={value}" for key, value in own.items() if value]
    seed = ["--seed=0"] if own["seed"] == 0 else []
    sets = [f"--set={text}" for text in overrides]
    quiet = ["-q"] if is_quiet() else []
    flags = ["--json"] if as_json else []
    return [
        *quiet,
        "train",
        name,
        *options,
        *seed,
        *sets,
        f"--out={out}",
        f"--device={device}",
        *flags,
    ]


def _train(
    recipe: Recipe,
    out: Path,
    *,
    device: str,
    as_json: bool,
    compared: Path | None,
    policy: Path | None,
) -> None:
    if launched_rank() == 0:
        note(f"{recipe.name}: a mapper for {_models_of(recipe)}, into {shown_path(out)}", err=True)
    with Progress("loading the libraries"):
        from bench.provenance import choose_device
        from bench.train import train_recipe
        from bench.train.validation import final_request
        from bench.train.validator import best_of

        chosen = choose_device(device)
    is_shown = not (as_json or is_quiet())

    def check(untrained: Path) -> None:
        request = final_request(recipe, out, adapter=untrained)
        if compared is not None and request is not None:
            prepare_gate(request, compared, policy=policy)

    result = train_recipe(
        recipe,
        out_dir=out,
        device=chosen,
        progress=is_shown,
        note=lambda text: note(text, err=True),
        check=check if compared is not None else None,
    )
    if launched_rank() > 0:
        return
    best = best_of(out)
    facts = {"mapper": str(result.mapper_path), "steps": result.steps, "loss": result.loss}
    facts |= {} if best is None else {"best": best}
    if not as_json:
        where = "" if best is None else f", that of step {best['step']}"
        echo(f"mapper in {result.mapper_path} after {result.steps} steps{where}")
    request = final_request(recipe, out, device=device, show_progress=is_shown)
    if request is None:
        if as_json:
            echo_json(facts)
    else:
        _run_and_gate(request, facts, compared=compared, policy=policy, as_json=as_json)


def _run_and_gate(
    request: RunRequest,
    facts: Mapping[str, Any],
    *,
    compared: Path | None,
    policy: Path | None,
    as_json: bool,
) -> None:
    """Run the benchmark with the trained mapper; exit with the gate's code if there is one."""
    if compared is None:
        from bench.run import run_benchmark

        outcome = run_benchmark(request)
        run: dict[str, Any] = {"run": str(outcome.folder), "failed": outcome.n_failed}
        if as_json:
            echo_json({**facts, **run})
        else:
            show_outcome(outcome, request, as_json=False)
        if outcome.n_failed:
            finish(NEGATIVE)
        return
    from bench.gate import load_policy, run_gated

    outcome, gate = run_gated(request, compared, load_policy(policy))
    if as_json:
        echo_json({**facts, "run": str(outcome.folder), "gate": gate.facts})
        finish(gate.exit_code)
    show_gate(gate.facts, as_json=False)


def _models_of(recipe: Recipe) -> str:
    return recipe.family if isinstance(recipe.family, str) else "two folders"


def _show_cost(
    recipe: Recipe, out: Path, *, n_processes: int | None, gpus: Gpus | None, as_json: bool
) -> None:
    with Progress("loading the libraries"):
        from bench.train.cost import cost_facts, cost_lines

    count = n_processes or (gpus.count if gpus is not None else 1)
    facts = cost_facts(recipe, out, n_processes=count, gpus=gpus)
    if as_json:
        echo_json(facts)
    else:
        echo_lines("\n".join(cost_lines(facts, recipe, out)))
