"""Cheap failures first: everything that can be known before a model loads, told all at once."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from bench.errors import UserError, shown_path, unknown_name
from bench.plan.cases import all_cases, prompts_of, rendered_lineups
from bench.plan.fetching import label_of
from bench.plan.plugin_files import NotFetchedError, resolve_plugin
from bench.plan.preflight_pictures import Missing, picture_problems, shown_names
from bench.plan.selection import Selection
from bench.registry import find_method, installed, load_entry
from plugins_manifest.cases.cases import Case
from plugins_manifest.cases.coco import CasesNotFetchedError
from plugins_manifest.formats.header import read_header
from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.stacks import (
    PARTNER_KEYS,
    PluginInSet,
    arrange_sets,
    plugin_sets,
)
from runners.base import FamilySource, PluginFile, arrangement_of
from xadapter.errors import MapperFileError
from xadapter.layout import PICKLED_SUFFIXES, mapper_file, mapper_layout

CLIP_TOKENS = 75  # of 77: start and end take one each
_CLIP_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
N_SHOWN = 5


def preflight(manifest: Manifest, selection: Selection, *, may_lack_files: bool = False) -> None:
    """Raise one `UserError` with every problem of the manifest's names, files and prompts.

    A check that needs what another one found missing is left out. What can be fetched is no problem
    where files may be lacking.
    """
    checks: tuple[Callable[[Manifest, Selection], Iterator[str]], ...] = (
        _check_selection,
        _check_methods,
        _check_plugins,
        _check_cases,
        _check_mapper,
        _check_family,
    )
    unknown = selection.unknown_plugins(manifest)
    chosen = manifest if unknown else selection.apply(manifest)
    problems = [*unknown, *chain.from_iterable(check(chosen, selection) for check in checks)]
    if may_lack_files:
        problems = [problem for problem in problems if not isinstance(problem, Missing)]
    if problems:
        raise UserError.collect(problems)


def _check_selection(manifest: Manifest, selection: Selection) -> Iterator[str]:
    yield from selection.problems()
    methods = installed("methods")
    for name in selection.methods or ():
        if name not in methods:
            yield unknown_name("method", name, methods)


def _check_methods(manifest: Manifest, selection: Selection) -> Iterator[str]:
    for spec in manifest.methods:
        if spec.name not in installed("methods"):
            continue
        method = find_method(spec.name)
        if method.uses_t0 and not spec.t0:
            yield f"method {spec.name!r} needs t0: add e.g. 't0: [0.7, 0.9]' or --t0 0.7,0.9"
        key = PARTNER_KEYS.get(arrangement_of(method))
        if key is not None and not arrange_sets(manifest, arrangement_of(method)):
            side = "upgraded" if key == "native" else "base"
            yield (
                f"method {spec.name!r} needs partners of the plugins: name plugins of the {side} "
                f"side in '{key}: ID'"
            )


def _check_plugins(manifest: Manifest, selection: Selection) -> Iterator[str]:
    files: dict[str, PluginFile] = {}
    unfetched: list[str] = []
    for spec in manifest.plugins:
        try:
            files[spec.id] = resolve_plugin(spec, manifest)
        except NotFetchedError:
            unfetched.append(spec.id)
        except UserError as error:
            yield from error.problems
    if unfetched:
        yield Missing(
            f"{len(unfetched)} of {len(manifest.plugins)} plugins are not on this machine yet "
            f"({shown_names(unfetched)}): run: xbench plugins fetch {label_of(manifest)}"
        )
    for file in files.values():
        if file.reference is not None and not file.reference.is_file():
            yield (
                f"plugin {file.plugin_id!r}: there is no image {shown_path(file.reference)}: "
                "correct reference"
            )
    yield from _check_twins(manifest, files)


def _check_twins(manifest: Manifest, files: dict[str, PluginFile]) -> Iterator[str]:
    """Lineups whose images would be the same: their trials would share their ids."""
    seen: dict[tuple[object, ...], str] = {}
    for plugin_set in plugin_sets(manifest):
        facts = [
            _pixels_of(files[m.plugin.id], m) for m in plugin_set.members if m.plugin.id in files
        ]
        if len(facts) < len(plugin_set.members):
            continue
        twin = seen.setdefault((*facts, plugin_set.prompts), plugin_set.id)
        if twin != plugin_set.id:
            what = "plugins" if len(facts) == 1 else "stacks"
            yield f"{what} {twin!r} and {plugin_set.id!r} are the same file and weight: remove one"


def _pixels_of(file: PluginFile, member: PluginInSet) -> tuple[object, ...]:
    """Everything of a plugin that decides pixels."""
    told = (member.weight, member.plugin.words, member.plugin.polarity, member.plugin.token)
    return file.sha256, file.side, file.condition, file.lora_semantics, file.reference, *told


def _check_cases(manifest: Manifest, selection: Selection) -> Iterator[str]:
    try:
        cases = all_cases(manifest, limit=selection.limit)
    except CasesNotFetchedError as error:
        yield Missing(error)
        return
    except UserError as error:
        yield from error.problems
        return
    yield from picture_problems(manifest, cases)
    yield from _check_prompts(manifest, cases)


def _check_prompts(manifest: Manifest, cases: dict[str, list[Case]]) -> Iterator[str]:
    check = pocket_prompt_problem if manifest.family == "pocket" else clip_prompt_problem
    prompts = dict.fromkeys(
        prompt
        for plugin_set in rendered_lineups(manifest)
        for case in cases[plugin_set.id]
        for prompt in (
            *prompts_of(plugin_set, case, family=manifest.family).all,
            case.negative_prompt,
        )
    )
    problems = [problem for prompt in prompts if (problem := check(prompt)) is not None]
    yield from problems[:N_SHOWN]
    if len(problems) > N_SHOWN:
        yield f"{len(problems) - N_SHOWN} more prompts have such problems"


def pocket_prompt_problem(prompt: str) -> str | None:
    """What is wrong with a prompt for the pocket models: too many words, or unknown ones."""
    from pocket.tokenizer import MAX_TOKENS, WORDS, unknown_words

    n_words, limit = len(prompt.split()), MAX_TOKENS - 2
    if n_words > limit:
        return f"the prompt {prompt!r} has {n_words} words, pocket reads {limit}: shorten it"
    unknown = sorted(set(unknown_words(prompt)))
    if unknown:
        return f"the prompt {prompt!r}: " + "; ".join(
            unknown_name("pocket word", word, WORDS) for word in unknown
        )
    return None


def clip_prompt_problem(prompt: str) -> str | None:
    """Whether a prompt surely has more tokens than CLIP reads: each of its pieces takes one."""
    n_pieces = len(_CLIP_PIECES.findall(prompt))
    if n_pieces <= CLIP_TOKENS:
        return None
    shown = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    return (
        f"the prompt {shown!r} has at least {n_pieces} tokens, the models read {CLIP_TOKENS}: "
        "shorten it"
    )


# --- the mapper


def _check_mapper(manifest: Manifest, selection: Selection) -> Iterator[str]:
    path = selection.adapter
    if path is None or not path.exists() or manifest.family != "pocket":
        return
    try:
        found = mapper_channels(path)
    except (MapperFileError, UserError) as error:
        yield f"--adapter: {shown_path(path)} holds no mapper ({error}): check the path"
        return
    wanted = _pocket_channels()
    if found is not None and found != wanted:
        yield (
            f"--adapter: the mapper in {shown_path(path)} turns channels {found[0]} into "
            f"{found[1]}, family {manifest.family!r} needs {wanted[0]} into {wanted[1]}: use a "
            "mapper that was trained for this family"
        )


def _check_family(manifest: Manifest, selection: Selection) -> Iterator[str]:
    """A method that needs a mapper, in a family that comes without one: before any download."""
    methods = [spec.name for spec in manifest.methods if spec.name in installed("methods")]
    needing = [name for name in methods if find_method(name).uses_adapter]
    if needing and manifest.family in installed("families"):
        family: FamilySource = load_entry("families", manifest.family)
        if (problem := family.mapper_problem(selection.adapter)) is not None:
            yield Missing(f"{', '.join(needing)} needs a mapper: {problem}")


Channels = tuple[tuple[int, ...], tuple[int, ...]]


def mapper_channels(path: Path) -> Channels | None:
    """Return a mapper's in- and out-channels; None for a pickled file, which is not opened here.

    Raises `MapperFileError` or `UserError` for a path that holds no mapper.
    """
    file = mapper_file(path)
    if file.suffix in PICKLED_SUFFIXES:
        return None
    tensors = read_header(file).tensors
    layout = mapper_layout({key: info.shape for key, info in tensors.items()}, source=file.name)
    return layout.in_channels, layout.out_channels


def _pocket_channels() -> Channels:
    from pocket.weights import part_path

    base, upgraded = (
        json.loads((part_path(part) / "unet" / "config.json").read_text())["block_out_channels"]
        for part in ("base", "upgraded")
    )
    return (base[2], base[1], base[0]), (upgraded[-1], upgraded[-1], upgraded[-2])


# --- the output folder


def check_room(folder: Path, needed_mib: float) -> list[str]:
    """What keeps a run from writing `needed_mib` into `folder`."""
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
