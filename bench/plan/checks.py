"""Preflight: every problem that can be found before a model loads, reported at once."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.errors import UserError, shown_path
from bench.plan.cases import named_conditions, prompts_of, rendered_sets
from bench.plan.conditions import why_not_made
from bench.plan.job import Job, MissingItem
from bench.plan.metrics import expand_metrics, selected_metrics
from bench.plan.missing import (
    N_SHOWN,
    lost_conditions,
    members_with_cases,
    missing_conditions,
    missing_mapper,
    needed_conditions,
    quoted,
)
from bench.plan.pictures import image_problems
from bench.plan.plugin_files import label_of, module_table
from bench.plan.remarks import job_remarks, log_once, refused_syntax
from bench.registry import extension_problems, find_method, installed
from plugins_manifest.folders import overlaps
from plugins_manifest.formats import read_header
from plugins_manifest.images import SUFFIXES, read_image
from plugins_manifest.images.folder import pictures_in
from plugins_manifest.inspect import why_unusable
from plugins_manifest.prompt_syntax import plain_words
from plugins_manifest.schema import PluginSet, plugin_sets
from plugins_manifest.schema.kinds import file_kinds, needs_reference
from plugins_manifest.schema.manifest import MethodSpec
from plugins_manifest.schema.stacks import PARTNER_KEYS, PluginInSet, arrange_sets, settings_of
from plugins_manifest.schema.words import UNSTORABLE_CONDITIONS
from runners.base import PluginFile, sampler_problem
from runners.families import family_traits
from runners.families.registry import never_a_mapper
from runners.families.traits import Channels
from runners.protocols import Method, arrangement_of, knobs_of
from xadapter.errors import MapperFileError
from xadapter.kinds import kind_of, read_architecture
from xadapter.layout import PICKLED_SUFFIXES, mapper_file, mapper_layout

_TEXT_LAYER = re.compile(r"text_encoder\.encoder\.layers\.(\d+)\.")


def preflight(job: Job, *, allow_missing: bool = False) -> None:
    """Raise one `UserError` with every problem of the job's names, files, prompts and images.

    A check is left out if its input is missing. With `allow_missing`, files
    that can be downloaded or provided later are not a problem. What a user should know about an
    image is logged as a warning, once.
    """
    manifest = job.manifest
    metrics = expand_metrics(selected_metrics(manifest), manifest)
    if broken := extension_problems((spec.name for spec in manifest.methods), metrics):
        raise UserError.collect([*job.problems, *broken])
    problems = [
        *job.problems,
        *_method_problems(job),
        *_reference_problems(job),
        *_sample_problems(job),
        *_weights_problems(job),
        *_direct_problems(job),
        *_twin_problems(job),
        *_picture_problems(job),
        *image_problems(job),
        *_prompt_problems(job),
        *_settings_problems(job),
        *_mapper_problems(job),
    ]
    for remark in job_remarks(job):
        log_once(remark.message)
    if not allow_missing:
        problems += _missing_problems(job)
    if problems:
        raise UserError.collect(problems)


def _missing_problems(job: Job) -> Iterator[str]:
    plugins = [name for name, file in job.plugins.items() if isinstance(file, MissingItem)]
    if plugins:
        yield (
            f"{len(plugins)} of {len(job.plugins)} plugins are not on this machine yet "
            f"({quoted(plugins)}): run: xbench plugins fetch {label_of(job.manifest)}"
        )
    cases, mapper = job.cases, missing_mapper(job)
    for item in (cases, *missing_conditions(job), mapper):
        if isinstance(item, MissingItem) and item.problem is not None:
            yield item.problem


def _method_problems(job: Job) -> Iterator[str]:
    family, known = job.manifest.family, installed("methods")
    own = [find_method(spec.name) for spec in job.manifest.methods if spec.name in known]
    joint = [method.name for method in own if method.uses_adapter]
    if joint and (why := never_a_mapper(family)) is not None:
        yield f"{', '.join(joint)} cannot run: {why}"
    for spec in job.manifest.methods:
        if spec.name not in installed("methods"):
            continue
        method = find_method(spec.name)
        if method.uses_t0 and not spec.t0:
            yield f"method {spec.name!r} needs t0: add e.g. 't0: [0.7, 0.9]' or --t0 0.7,0.9"
        yield from _knob_problems(spec, method)
        key = PARTNER_KEYS.get(arrangement_of(method))
        if key is not None and not arrange_sets(job.manifest, arrangement_of(method)):
            side = "base" if key == "swap" else "upgraded"
            yield (
                f"method {spec.name!r} needs partners of the plugins: name plugins of the {side} "
                f"side in '{key}: ID'"
            )


def _knob_problems(spec: MethodSpec, method: Method) -> Iterator[str]:
    """Find settings of single methods at another one."""
    knobs = knobs_of(method)
    for key in ("strength", "route", "schedule", "difference"):
        given = getattr(spec, key)
        if given is not None and (knobs is None or key not in knobs.keys):
            text = ", ".join(str(value) for value in given)
            yield f"method {spec.name!r} has no {key!r}, it is set to [{text}]: remove it"


# --- plugins


def _reference_problems(job: Job) -> Iterator[str]:
    for file in job.files.values():
        if file.reference is not None and not file.reference.is_file():
            yield (
                f"plugin {file.plugin_id!r}: there is no image {shown_path(file.reference)}: "
                "correct reference"
            )


def _sample_problems(job: Job) -> Iterator[str]:
    for spec in job.manifest.plugins:
        if spec.samples is not None:
            path = job.manifest.folder / spec.samples
            if not (found := pictures_in(path)):
                fix = f"correct samples, or put pictures there ({', '.join(SUFFIXES)})"
                yield f"plugin {spec.id!r}: there is no picture in {shown_path(path)}: {fix}"
            for picture in found:
                try:
                    read_image(picture)
                except UserError as error:
                    yield f"plugin {spec.id!r}: {error}"


def _weights_problems(job: Job) -> Iterator[str]:
    """Find files that a run could not attach; each is opened by the inspector, without torch."""
    usable: list[str] = []
    for file in job.files.values():
        if not file.path.exists():  # a placeholder of what is not fetched yet
            continue
        why = why_unusable(
            file.path,
            kinds=file_kinds(file.kind),
            table=module_table(job.manifest, file.side),
            allow_partial=file.allow_partial,
            condition=file.condition,
        )
        if why is None:
            usable.append(file.plugin_id)
        else:
            yield f"plugin {file.plugin_id!r}: {why}"
    if usable and len(usable) < len(job.files):
        yield f"the other plugins can be attached: --plugins {','.join(usable)} runs them alone"


def _direct_problems(job: Job) -> Iterator[str]:
    """Find plugins that method `direct` could not load into the upgraded model."""
    methods = [m.name for m in job.manifest.methods if m.name in installed("methods")]
    if not any(arrangement_of(find_method(name)) == "direct" for name in methods):
        return
    if family_traits(job.manifest.family).one_layout:  # what the base takes, its fine-tune takes
        return
    moved = [f for f in job.files.values() if f.side == "base" and f.path.exists()]
    table, refused = module_table(job.manifest, "upgraded"), []
    for file in moved:
        why = why_unusable(
            file.path,
            kinds=file_kinds(file.kind),
            table=table,
            allow_partial=file.allow_partial,
            condition=file.condition,
        )
        if why is not None:
            refused.append(file.plugin_id)
            yield f"method 'direct', plugin {file.plugin_id!r} in the upgraded model: {why}"
    if refused:
        left = [file.plugin_id for file in moved if file.plugin_id not in refused]
        fix = f"--plugins {','.join(left)} runs those that fit, or " if left else ""
        yield f"{fix}leave out the method 'direct'"


def _twin_problems(job: Job) -> Iterator[str]:
    """Find plugins and stacks whose images would be the same: their trials would share ids."""
    files = job.files
    seen: dict[tuple[object, ...], str] = {}
    for plugin_set in plugin_sets(job.manifest):
        facts = [
            _pixel_facts(files[m.plugin.id], m) for m in plugin_set.members if m.plugin.id in files
        ]
        if len(facts) < len(plugin_set.members):
            continue
        settings = settings_of(plugin_set, job.manifest)
        settings = settings.model_copy(update={"clip_skip": settings.clip_skip or 1})
        twin = seen.setdefault(
            (*facts, plugin_set.prompts, settings.model_dump_json()), plugin_set.id
        )
        if twin != plugin_set.id:
            what = "plugins" if len(facts) == 1 else "stacks"
            yield f"{what} {twin!r} and {plugin_set.id!r} are the same file and weight: remove one"


def _pixel_facts(file: PluginFile, member: PluginInSet) -> tuple[object, ...]:
    """Return everything of a plugin that decides pixels."""
    spec = member.plugin
    settings = (file.side, file.condition, file.lora_semantics, file.reference)
    beside = tuple(sha256 for _, sha256 in file.side_files)
    return file.sha256, beside, *settings, member.weight, spec.words, spec.polarity, spec.token


# --- cases


def _picture_problems(job: Job) -> Iterator[str]:
    """Find cases without a picture to make a condition from, and without an image prompt."""
    lost = list(lost_conditions(job))
    yield from lost
    for condition, needed in needed_conditions(job).items():
        if condition in UNSTORABLE_CONDITIONS:
            yield (
                f"{needed.plugin_names}: masked pixels of the condition {condition!r} are -1, "
                f"which no image file holds: remove the {needed.noun}"
            )
        if lost:
            continue
        blank = [case_id for case_id, case in needed.bare.items() if not case.has_picture]
        if blank and why_not_made(condition) is None:
            verb = "needs" if len(needed.plugins) == 1 else "need"
            yield (
                f"{needed.plugin_names} {verb} a condition, but {quoted(blank)} has no picture: "
                "add 'image: PATH' to the case"
            )
    found: dict[str, None] = {}
    for spec, cases in members_with_cases(job):
        if needs_reference(spec.kind) and spec.reference is None:
            blank = [c.case_id for c in cases if c.reference_path is None and not c.has_picture]
            if blank:
                found[
                    f"plugin {spec.id!r} needs a reference image, but {quoted(blank)} has "
                    "none: add 'reference: PATH' to the plugin or to the case"
                ] = None
    yield from found


def _prompt_problems(job: Job) -> Iterator[str]:
    manifest = job.manifest
    check = family_traits(manifest.family).prompt_problem
    prompts = dict.fromkeys(
        _without_tokens(prompt, plugin_set)
        for plugin_set in rendered_sets(manifest)
        for case in job.cases_by_set.get(plugin_set.id, [])
        for prompt in (
            *prompts_of(plugin_set, case, family=manifest.family).all,
            case.negative_prompt,
        )
    )
    yield from refused_syntax(job)
    if manifest.settings.prompt_syntax == "weights":  # its words alone: long prompts are read
        prompts = dict.fromkeys(word for text in prompts for word in plain_words(text).split())
    problems = [problem for prompt in prompts if (problem := check(prompt)) is not None]
    yield from problems[:N_SHOWN]
    if len(problems) > N_SHOWN:
        yield f"{len(problems) - N_SHOWN} more prompts have such problems"


def _without_tokens(prompt: str, plugin_set: PluginSet) -> str:
    """Return the prompt without the words that textual inversions bring; they check those."""
    tokens = {m.plugin.token for m in plugin_set.members if m.plugin.token}
    return " ".join(word for word in prompt.split(" ") if word.strip(",") not in tokens)


def _settings_problems(job: Job) -> Iterator[str]:
    """Find a clip skip beyond the text encoder's layers, and too many steps of a sampler."""
    table = module_table(job.manifest, "base") or {}
    n_layers = len({match[1] for name in table if (match := _TEXT_LAYER.match(name))})
    found: dict[str, None] = {}
    for plugin_set in plugin_sets(job.manifest):
        settings = settings_of(plugin_set, job.manifest)
        if (why := sampler_problem(settings.sampler, settings.steps)) is not None:
            found[f"{plugin_set.id}: {why}"] = None
        if n_layers and (settings.clip_skip or 1) > n_layers:
            found[
                f"{plugin_set.id}: clip_skip is {settings.clip_skip}, the base text encoder has "
                f"{n_layers} layers: use 1 (its last layer) to {n_layers}"
            ] = None
    yield from found


# --- the mapper


def _mapper_problems(job: Job) -> Iterator[str]:
    family, methods = job.manifest.family, job.manifest.methods
    if job.adapters and not any(
        find_method(m.name).uses_adapter for m in methods if m.name in installed("methods")
    ):
        yield f"{len(job.adapters)} adapters, but no method uses one: add the method 'xadapter'"
    needed = family_traits(family).mapper_channels()
    for path in mapper_paths(job) if needed is not None else ():
        if not path.exists():
            continue
        try:
            channels = mapper_channels(path)
        except (MapperFileError, UserError) as error:
            yield f"--adapter: {shown_path(path)} holds no mapper: {error}"
            continue
        if needed is not None and channels is not None and channels != needed:
            yield (
                f"--adapter: the mapper in {shown_path(path)} turns channels {channels[0]} into "
                f"{channels[1]}, family {family!r} needs {needed[0]} into {needed[1]}: use a "
                "mapper that was trained for this family"
            )


def mapper_paths(job: Job) -> list[Path]:
    """Return the paths of the mappers in place of the family's own."""
    one = job.adapter
    return [adapter.path for adapter in job.adapters] or ([] if one is None else [one])


def mapper_channels(path: Path) -> Channels | None:
    """Return a mapper's in- and out-channels; None where only loading it can compare them.

    That is a pickled file, which is not opened here, and an architecture with sites of its own.
    Raises `MapperFileError` or `UserError` for a path that holds no mapper, and for one whose
    architecture is not installed.
    """
    file = mapper_file(path)
    if file.suffix in PICKLED_SUFFIXES:
        return None
    header = read_header(file)
    architecture = read_architecture(header.metadata, source=file.name)
    if architecture is not None:
        kind_of(architecture)
        return None
    shapes = {key: info.shape for key, info in header.tensors.items()}
    layout = mapper_layout(shapes, source=file.name)
    return layout.in_channels, layout.out_channels


# --- the output folder


def output_problems(folder: Path, job: Job) -> Iterator[str]:
    """Yield why a run directory meets what the run reads: plugins, mapper, images."""
    named = named_conditions(job.manifest)
    plugins = (file.path for file in job.files.values())
    images = {
        Path(path)
        for cases in job.cases_by_set.values()
        for case in cases
        for path in (case.image_path, case.reference_path, *dict(case.condition_paths).values())
        if path is not None
    }
    inputs = dict.fromkeys((*plugins, *sorted(images)))
    for path in (*mapper_paths(job), job.manifest.folder / named if named else None):
        if path is not None:
            inputs[path] = None
    yield from itertools.islice(overlaps(folder, inputs), N_SHOWN)


def check_room(folder: Path, needed_mib: float) -> list[str]:
    """Return why a run cannot write `needed_mib` into `folder`; empty if it can."""
    parent = folder.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        return [f"{shown_path(parent)} is a file, not a folder: choose another --out"]
    if not os.access(parent, os.W_OK | os.X_OK):
        return [
            f"{shown_path(parent)} cannot be written: change its rights or choose another --out"
        ]
    free_mib = shutil.disk_usage(parent).free / 2**20
    if free_mib < needed_mib:
        return [
            f"{shown_path(folder)} needs about {needed_mib:.0f} MiB, {free_mib:.0f} MiB are free: "
            "free some space or choose another --out"
        ]
    return []
