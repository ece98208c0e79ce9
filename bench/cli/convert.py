"""xbench convert: a LoRA for the upgraded model of a family, made from one for the base model."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import echo_json, echo_lines, is_quiet, json_option, note
from bench.errors import UserError, shown_path
from plugins_manifest.extras import require_extra
from plugins_manifest.progress import Progress
from plugins_manifest.schema.words import MAX_SEED, ConversionWay, TeacherName
from plugins_manifest.text import shell_command

if TYPE_CHECKING:
    from plugins_manifest.cases import Case
    from plugins_manifest.schema import Manifest
    from runners.base import PluginFile, RenderSettings
    from runners.convert import Conversion, Converted, Prompt

SCHEMA = 1
# scenes of no training set, manifest or claim
TRAINING_SCENES, BENCHMARK_SCENES = 9301, 9302
N_BENCHMARK = 24
HELD_OUT_EVERY = 5  # of the prompts of a file: the benchmark's
N_PICTURES = 256
STEPS = 25  # of the sampler
_OWN = b'"xbench.method"'


@click.command()
@click.argument("plugin", metavar="PLUGIN")
@click.option("--to", "family", required=True, metavar="FAMILY", help="The family to upgrade by.")
@click.option(
    "--method",
    "way",
    type=click.Choice(get_args(ConversionWay)),
    default="distill",
    show_default=True,
    help="distill fits a LoRA to a teacher's pictures; the others are algebra.",
)
@click.option(
    "--teacher", type=click.Choice(get_args(TeacherName)), default="delta", show_default=True
)
@click.option(
    "--t0",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.9,
    show_default=True,
    help="The teacher's hand-over time.",
)
@click.option("--trigger", metavar="WORDS", help="Words that activate the plugin [the file's].")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Prompts without these words, one a line (or a case file); every fifth is kept for the "
    "benchmark [captions, for pocket families].",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Pictures of the teacher [{N_PICTURES}]; prompts are used again with other noise.",
)
@click.option(
    "--render-steps",
    type=click.IntRange(1, 1000),
    default=STEPS,
    show_default=True,
    metavar="N",
    help="Sampling steps of a picture.",
)
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Training steps [300].")
@click.option("--rank", type=click.IntRange(1, 1024), metavar="R", help="Rank of the LoRA [16].")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Pictures of a step [8].")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="[2e-3 below 100 million parameters, else 1e-4]",
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option("--adapter", type=click.Path(path_type=Path), help="Another mapper, for xadapter.")
@click.option("--out", type=click.Path(path_type=Path), help="[PLUGIN-FAMILY.safetensors]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the frozen models; the LoRA is trained in float32.",
)
@json_option
def convert(
    *,
    plugin: str,
    family: str,
    out: Path | None,
    device: str,
    adapter: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Make a LoRA for the new model of FAMILY from PLUGIN, a LoRA for the old one.

    PLUGIN is a file, or a part of pocket such as pocket:lora-outline. Only prompts are needed: a
    teacher draws with the old plugin, and the LoRA is fitted to its pictures. The load audit is
    printed, and a manifest is written beside the file, which compares both with `xbench run`. The
    same command goes on where it was cut off. Exit code 1: the new model does not take all of it.
    """
    require_extra("render")
    started = time.monotonic()
    out = out or Path(f"{_stem(plugin)}-{family}.safetensors")
    with Progress("checking the plugin"):
        one, cases = _planned(plugin, family, out, adapter=adapter, **given)
    note(f"{plugin} to {family} by {one.way}, into {shown_path(out)}", err=True)
    with Progress("loading the libraries"):
        from bench.provenance import choose_device
        from runners.convert import convert as run_conversion
        from runners.families import load_family

        chosen = choose_device(device)
    with Progress(f"loading {family}"):
        loaded = load_family(
            family,
            device=chosen,
            dtype=one.settings.dtype,
            adapter=adapter,
            planned=one.family_sha256,
        )
    found = run_conversion(one, loaded, out, has_bar=not (as_json or is_quiet()))
    manifest = _write_manifest(one, plugin, family, out, cases=cases)
    _show(one, found, manifest, seconds=time.monotonic() - started, as_json=as_json)
    if not found.audit.is_complete:
        finish(NEGATIVE)


# --- what is converted


def _planned(
    plugin: str,
    family: str,
    out: Path,
    *,
    way: ConversionWay,
    teacher: TeacherName,
    t0: float,
    trigger: str | None,
    prompts: Path | None,
    adapter: Path | None,
    dtype: str,
    render_steps: int,
    pictures: int | None,
    **plan: Any,
) -> tuple[Conversion, list[Case] | None]:
    """Return the conversion, and the prompts that are kept for the benchmark (None: scenes).

    Raises one `UserError` for everything that is wrong before a model loads.
    """
    from runners.convert import Conversion, FitPlan, Teacher
    from runners.families import family_fingerprint

    manifest = _manifest_of(plugin, family, out)
    problems = [*_way_problems(way, family, teacher, adapter), *_out_problems(out)]
    file = _plugin_file(manifest, problems)
    words = trigger or (None if file is None else _stated_trigger(file.path))
    training, held_out = _prompts(
        prompts, family, problems, trigger=words, way=way, n=pictures or N_PICTURES
    )
    if problems or file is None:
        raise UserError.collect(problems)
    own = {key: value for key, value in plan.items() if value is not None}
    return Conversion(
        plugin=file,
        way=way,
        prompts=training,
        trigger=words,
        settings=_settings(manifest, steps=render_steps, dtype=dtype),
        family_sha256=family_fingerprint(family, adapter=adapter),  # raises without the weights
        work=_work_folder(out),
        teacher=Teacher(teacher, t0),
        plan=FitPlan(**own),
    ), held_out


def _stem(plugin: str) -> str:
    return Path(plugin.rpartition(":")[2] if plugin.startswith("pocket:") else plugin).stem


def _manifest_of(plugin: str, family: str, out: Path) -> Manifest:
    """Return a manifest with the plugin alone: paths, names and settings are checked as a run's."""
    from bench.plan.job import with_family_settings
    from bench.registry import known_names
    from plugins_manifest.schema.load import check_manifest
    from plugins_manifest.schema.references import is_network

    if is_network(plugin):
        raise UserError(
            f"{plugin} is not on this machine: list it in a manifest, run: xbench plugins fetch "
            "MANIFEST, and give the file"
        )
    data = {
        "schema": 1,
        "name": "convert",
        "family": family,
        "plugins": [{"id": "old", "kind": "lora", "source": plugin}],
        "cases": [{"prompt": "none"}],
        "methods": [{"name": "base"}],
    }
    manifest, problems = check_manifest(data, known=known_names())
    if manifest is None:
        raise UserError.collect([text for _, text in problems])
    return with_family_settings(manifest)


def _plugin_file(manifest: Manifest, problems: list[str]) -> PluginFile | None:
    """Return the plugin's file; None, with a problem, for what is not a LoRA of the base model."""
    from bench.plan.plugin_files import module_table, resolve_plugin
    from plugins_manifest.inspect import why_unusable
    from plugins_manifest.schema.kinds import file_kinds

    try:
        file = resolve_plugin(manifest.plugins[0], manifest)
    except UserError as error:
        problems += error.problems
        return None
    table = module_table(manifest, "base")
    why = why_unusable(file.path, kinds=file_kinds("lora"), table=table)
    if why is not None:
        problems.append(why)
        return None
    return file


def _way_problems(way: ConversionWay, family: str, teacher: str, adapter: Path | None) -> list[str]:
    from runners.convert.request import no_unet
    from runners.families import family_traits, find_family

    table = family_traits(family).module_table("upgraded")
    if table and not any(name.startswith("unet.") for name in table):
        return [no_unet(family)]
    if way in ("copy", "prolora") and not family_traits(family).one_layout:
        return [
            f"--method {way}: the models of {family!r} have layers of other shapes, and {way} is "
            "for models of one layout: use distill or theseus"
        ]
    missing = find_family(family).mapper_problem(adapter)
    if way == "distill" and teacher == "xadapter" and missing is not None:
        return [f"--teacher xadapter: {missing}; or use --teacher delta"]
    return []


def _out_problems(out: Path) -> Iterator[str]:
    """Find what an output would replace that is not this command's own."""
    from plugins_manifest.folders import refuse_foreign, refuse_others
    from runners.convert.benchmark import HEADLINE
    from runners.convert.request import WORK_PREFIXES

    if out.suffix != ".safetensors":
        yield f"--out {shown_path(out)}: give a file that ends in .safetensors"
        return
    line = HEADLINE.encode()
    for check in (
        lambda: refuse_foreign(out, lambda head: _OWN in head, option="--out"),
        lambda: refuse_foreign(_manifest_path(out), lambda head: line in head, option="--out"),
        lambda: refuse_others(_work_folder(out), WORK_PREFIXES),
    ):
        try:
            check()
        except UserError as error:
            yield from error.problems


def _manifest_path(out: Path) -> Path:
    return out.with_suffix(".yaml")


def _work_folder(out: Path) -> Path:
    return out.with_suffix(".work")


def _stated_trigger(path: Path) -> str | None:
    """Return the words that a file's metadata state; None where it states none."""
    from plugins_manifest.formats import read_header
    from plugins_manifest.formats.side_files import weights_file

    return read_header(weights_file(path)).metadata.get("modelspec.trigger_phrase") or None


def _settings(manifest: Manifest, *, steps: int, dtype: str) -> RenderSettings:
    from bench.render.execute import render_settings

    settings = manifest.settings.model_copy(update={"dtype": dtype})
    return replace(render_settings(settings), steps=steps)


# --- prompts


def _prompts(
    path: Path | None,
    family: str,
    problems: list[str],
    *,
    trigger: str | None,
    way: ConversionWay,
    n: int,
) -> tuple[list[Prompt], list[Case] | None]:
    """Return the prompts of the pictures, and those that are kept for the benchmark."""
    from metrics.pocket_scorer import POCKET_FAMILIES
    from runners.convert import Prompt
    from runners.families import family_traits

    held_out: list[Case] | None = None
    if path is not None:
        texts, held_out = _split(path, problems)
    elif family in POCKET_FAMILIES:
        texts = _captions(n)
    else:
        needed = "the benchmark" if way in ("copy", "prolora") else "the pictures"
        problems.append(f"--prompts is missing: give a file with prompts for {needed}")
        return [], None
    traits = family_traits(family)
    words = [] if trigger is None else [trigger]
    found = [Prompt(text, traits.prompt_separator.join([text, *words])) for text in texts]
    problems += [w for one in found if (w := traits.prompt_problem(one.plugged)) is not None]
    return [found[i % len(found)] for i in range(n)] if found else [], held_out


def _captions(n: int) -> list[str]:
    from pocket.scenes import caption, scene_at

    return [caption(scene_at(TRAINING_SCENES, index)) for index in range(n)]


def _split(path: Path, problems: list[str]) -> tuple[list[str], list[Case]]:
    from plugins_manifest.cases import file_cases
    from plugins_manifest.schema.manifest import FileCases

    try:
        cases = file_cases(FileCases(source="file", path=path.name), folder=path.parent)
    except UserError as error:
        problems += error.problems
        return [], []
    if len(cases) < HELD_OUT_EVERY:
        problems.append(
            f"--prompts {shown_path(path)} has {len(cases)} prompts: give at least "
            f"{HELD_OUT_EVERY}, every fifth is kept for the benchmark"
        )
    last = HELD_OUT_EVERY - 1
    training = [one.prompt for i, one in enumerate(cases) if i % HELD_OUT_EVERY != last]
    return training, cases[last::HELD_OUT_EVERY]


# --- results


def _write_manifest(
    one: Conversion, plugin: str, family: str, out: Path, *, cases: Sequence[Case] | None
) -> Path:
    from plugins_manifest.files import atomic_write
    from runners.convert.benchmark import benchmark_text

    source = plugin
    if one.plugin.path.exists() and not plugin.startswith("pocket:"):
        source = os.path.relpath(one.plugin.path, out.parent)
    listed: Mapping[str, Any] | list[dict[str, Any]] = (
        {"source": "pocket", "seed": BENCHMARK_SCENES, "n": N_BENCHMARK}
        if cases is None
        else [{"prompt": case.prompt} for case in cases]
    )
    text = benchmark_text(
        name=out.stem,
        family=family,
        source=source,
        converted=out.name,
        native=_native_twin(plugin, family),
        trigger=one.trigger,
        cases=listed,
        t0=one.teacher.t0,
    )
    path = _manifest_path(out)
    atomic_write(path, text)
    return path


def _native_twin(plugin: str, family: str) -> str | None:
    """Return the shipped twin of one of pocket's parts, trained for the upgraded model itself."""
    from pocket.weights import PARTS
    from runners.families import family_traits, find_family

    name = plugin.removeprefix("pocket:")
    if name == plugin or family_traits(family).one_layout:
        return None
    twin = f"{getattr(find_family(family), 'upgraded', '')}-{name}"
    return f"pocket:{twin}" if twin in PARTS else None


def _show(
    one: Conversion, found: Converted, manifest: Path, *, seconds: float, as_json: bool
) -> None:
    command = shell_command(["xbench", "run", "--manifest", manifest])
    audit = found.audit
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "file": str(found.file),
        "method": one.way,
        "trigger": one.trigger,
        "audit": {
            "expected": audit.n_expected,
            "applied": audit.n_applied,
            "complete": audit.is_complete,
            "summary": audit.summary(),
        },
        "manifest": str(manifest),
        "next": command,
        "seconds": round(seconds, 1),
    }
    facts |= {} if found.loss is None else {"loss": found.loss, "pictures": len(one.prompts)}
    facts |= {} if found.energy_share is None else {"energy_share": found.energy_share}
    if as_json:
        echo_json(facts)
        return
    lines = [f"{shown_path(found.file)}: {audit.summary()} in the upgraded model"]
    if found.energy_share is not None:
        share = f"{100 * found.energy_share:.0f} % of the update's energy"
        lines.append(f"{share} is in layers that have a partner")
    if one.trigger is not None:
        lines.append(f"its words: {one.trigger}")
    lines.append(f"does it work? {command}")
    echo_lines("\n".join(lines))
