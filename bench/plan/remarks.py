"""What a user should know about a job that runs, but perhaps not as it is meant.

Syntax of other tools in prompts, LoRAs for few steps at many, a clip skip that is not the file's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from bench.errors import UserError
from bench.plan.cases import prompts_of, rendered_sets
from bench.plan.job import Job
from bench.plan.plugin_files import ManifestFiles, locked_entry, resolve_plugin
from plugins_manifest.formats.made_for import COMMON_NAMES, few_steps, file_names, stated_clip_skip
from plugins_manifest.formats.side_files import read_plugin, weights_file
from plugins_manifest.prompt_syntax import find_syntax
from plugins_manifest.schema import Manifest, PluginSpec, plugin_sets
from plugins_manifest.schema.kinds import KINDS
from plugins_manifest.schema.manifest import CocoCases, PocketCases
from plugins_manifest.schema.references import is_network
from plugins_manifest.schema.stacks import settings_of
from plugins_manifest.text import shortened

_LOG = logging.getLogger(__name__)
_N_NAMED = 3
_LONGEST = 60  # characters of a piece of a prompt
_WITH_WEIGHTS = "'prompt_syntax: weights' in settings applies it"
_LITERAL: Mapping[str, str] = {
    "weight": f"the prompt weight {{}} is read literally: {_WITH_WEIGHTS}",
    "emphasis": f"the doubled parentheses {{}} are read literally: {_WITH_WEIGHTS}",
    "square": f"the square brackets {{}} are read literally: {_WITH_WEIGHTS}",
    "break": "{} is read as a word: 'prompt_syntax: weights' in settings starts a new chunk of "
    "tokens there",
    "editing": "the prompt editing {} is read literally: it is not supported; write one prompt",
    "and": "{} is read as a word: prompts are not composed; write one prompt",
    "lora": "the tag {} is read literally: LoRAs are plugins of the manifest, with a weight; "
    "remove the tag",
    "braces": "the braces {} are read literally: write (word:1.1) with 'prompt_syntax: weights' "
    "in settings, or one of the choices",
    "wildcard": "the wildcard {} is read literally: write the words",
    "compel": "the weight {} is read literally: write (word:1.3) with 'prompt_syntax: weights' in "
    "settings",
    "embedding": "the embedding {} is read literally: embeddings are plugins of kind "
    "textual_inversion, called by their token alone",
}
_APPLIED = frozenset({"weight", "emphasis", "square", "break"})
_REFUSED: Mapping[str, str] = {
    "lora": "the tag {} is no part of a prompt: LoRAs are plugins of the manifest, with a weight; "
    "add it to 'plugins' and remove the tag",
    "editing": "the prompt editing {} is not supported with weights: write one prompt",
    "and": "{} between prompts is not supported with weights: write one prompt",
}
# Embeddings that prompts of the web UI name most, in lower case; without a plugin they are letters.
_KNOWN_EMBEDDINGS = (
    *("easynegative", "easynegativev2", "badhandv4", "bad-hands-5", "bad_prompt_version2"),
    *("bad-artist", "bad-artist-anime", "bad-picture-chill-75v", "bad-image-v2-39000"),
    *("ng_deepnegative_v1_75t", "verybadimagenegative_v1.3", "negative_hand-neg"),
    *("fastnegativev2", "unaestheticxlv31", "negativexl_d", "boring_e621_v4"),
)


@dataclass(frozen=True)
class Remark:
    """One remark; `kind` is a short name for scripts."""

    kind: str
    message: str


@cache
def log_once(text: str) -> None:
    """Log a warning, once a process."""
    _LOG.warning("%s", text)


def job_remarks(job: Job) -> list[Remark]:
    """Return the remarks on a job's prompts and plugins; makes no network requests."""
    paths = {name: file.path for name, file in job.files.items()}
    return [*_prompt_remarks(job), *plugin_remarks(job.manifest, paths)]


# --- prompts


def _prompt_remarks(job: Job) -> Iterator[Remark]:
    with_weights = job.manifest.settings.prompt_syntax == "weights"
    left_out = _APPLIED | _REFUSED.keys() if with_weights else frozenset()
    for kind, (text, cases) in _syntax_of(job).items():
        if kind not in left_out:
            yield Remark(f"prompt-{kind}", _said(_LITERAL[kind], text, cases))
    for name, (why, cases) in _names_of_embeddings(job).items():
        message = _said("{} is read letter by letter: " + why, name, cases)
        yield Remark("prompt-embedding-name", message)


def refused_syntax(job: Job) -> Iterator[str]:
    """Yield the syntax that prompts with weights cannot have."""
    if job.manifest.settings.prompt_syntax == "weights":
        for kind, (text, cases) in _syntax_of(job).items():
            if kind in _REFUSED:
                yield _said(_REFUSED[kind], text, cases)


def _said(message: str, text: str, cases: Mapping[str, None]) -> str:
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    where = shortened([repr(case_id) for case_id in cases], _N_NAMED)
    noun = "case" if len(cases) == 1 else "cases"
    return f"prompt of {noun} {where}: {message.replace('{}', repr(shown), 1)}"


def _syntax_of(job: Job) -> dict[str, tuple[str, dict[str, None]]]:
    """Return kind of syntax -> its first piece, and the cases with this kind."""
    seen: dict[str, list[tuple[str, str]]] = {}
    found: dict[str, tuple[str, dict[str, None]]] = {}
    for plugin_set in rendered_sets(job.manifest):
        for case in job.cases_by_set.get(plugin_set.id, []):
            prompts = prompts_of(plugin_set, case, family=job.manifest.family)
            for prompt in dict.fromkeys((*prompts.all, case.negative_prompt)):
                if prompt not in seen:
                    seen[prompt] = [(one.kind, one.text) for one in find_syntax(prompt)]
                for kind, text in seen[prompt]:
                    found.setdefault(kind, (text, {}))[1][case.case_id] = None
    return found


def _names_of_embeddings(job: Job) -> dict[str, tuple[str, dict[str, None]]]:
    """Return names of embeddings in prompts that are not their tokens -> why, and the cases.

    Captions were not written for embeddings: there the names are ordinary words.
    """
    is_written = not isinstance(job.manifest.cases, CocoCases | PocketCases)
    names = {name: why for spec in job.manifest.plugins for name, why in _other_names(spec)}
    tokens = {str(spec.token).lower() for spec in job.manifest.plugins}
    for name in _KNOWN_EMBEDDINGS:
        if name not in tokens:
            fix = f"add it as a plugin of kind textual_inversion with 'token: {name}'"
            names.setdefault(name, f"it is the name of an embedding; {fix}")
    if not names:
        return {}
    words = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])(?<!<)(?:{words})(?![\w-])(?!>)", re.IGNORECASE)
    found: dict[str, tuple[str, dict[str, None]]] = {}
    for plugin_set in plugin_sets(job.manifest):
        if not (is_written or plugin_set.prompts):
            continue
        for case in job.cases_by_set.get(plugin_set.id, []):
            for match in pattern.finditer(f"{case.prompt}\n{case.negative_prompt}"):
                why = names[match[0].lower()]
                found.setdefault(match[0], (why, {}))[1][case.case_id] = None
    return found


def _other_names(spec: PluginSpec) -> Iterator[tuple[str, str]]:
    """Yield what a user may call an embedding besides its token, in lower case."""
    if spec.token is None:
        return
    token, bare = spec.token.lower(), spec.token.strip("<>").lower()
    stem, own = PurePosixPath(spec.source).stem.lower(), spec.id.lower()
    # an id may be an ordinary word of prompts
    for name in (bare, f"<{bare}>", stem, *(() if own.isalpha() else (own,))):
        if name != token and len(name) > 3 and name not in COMMON_NAMES:
            yield name, f"the token of plugin {spec.id!r} is {spec.token!r}"


# --- plugins


def plugin_remarks(manifest: Manifest, paths: Mapping[str, Path]) -> list[Remark]:
    """Return what LoRAs need and do not have; `paths` are those of the plugins that are here."""
    found: dict[Remark, None] = {}
    metadata = {spec.id: _metadata(paths.get(spec.id)) for spec in manifest.plugins}
    for plugin_set in plugin_sets(manifest):
        settings = settings_of(plugin_set, manifest)
        for spec in (member.plugin for member in plugin_set.members):
            if not KINDS[spec.kind].changes_weights:
                continue
            few = few_steps(_names(spec, manifest), metadata[spec.id])
            if few and not few.suits(settings.steps, settings.guidance_scale):
                used = f"{settings.steps} steps and guidance {settings.guidance_scale:g}"
                message = (
                    f"plugin {spec.id!r} looks like a {few.name} LoRA, made for few steps, and is "
                    f"rendered with {used}: give it {few.settings}"
                )
                found[Remark("few-steps", message)] = None
            stated, skip = stated_clip_skip(metadata[spec.id]), settings.clip_skip or 1
            if spec.side == "base" and stated not in (None, skip):
                message = (
                    f"plugin {spec.id!r} was trained with clip skip {stated} (ss_clip_skip), and "
                    f"is rendered with {skip}: give it settings: {{clip_skip: {stated}}}"
                )
                found[Remark("clip-skip", message)] = None
    return list(found)


def log_remarks(files: ManifestFiles) -> None:
    """Log the remarks on the plugins of a locked manifest."""
    paths: dict[str, Path] = {}
    for spec in files.manifest.plugins:
        with suppress(UserError):  # what is not here is only named
            paths[spec.id] = resolve_plugin(spec, files.manifest).path
    for remark in plugin_remarks(files.manifest, paths):
        log_once(remark.message)


def _names(spec: PluginSpec, manifest: Manifest) -> Iterator[str]:
    """Yield the names of a plugin: id, file, repository, page."""
    yield spec.id
    source = PurePosixPath(spec.source.replace("\\", "/"))
    if is_network(spec.source):
        yield spec.source.partition("://")[2]
    else:
        yield from file_names(source.name, source.parent.name)
    entry = locked_entry(spec, manifest)
    if entry is not None:
        yield from (file.name for file in entry.files)
        yield from (name for name in (entry.origin.model_name, entry.origin.version_name) if name)


def _metadata(path: Path | None) -> Mapping[str, str]:
    """Return the metadata of a plugin's file; none for other files, which are checked elsewhere."""
    try:
        return {} if path is None or not path.exists() else read_plugin(weights_file(path)).metadata
    except UserError:
        return {}
