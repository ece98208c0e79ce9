"""Render reference pictures of plugins with Civitai's hosted generator.

They show what a plugin looks like in an independent implementation. They cost Buzz and are not
reproducible bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.civitai.client import Finished, Generator
from bench.errors import UserError, shown_path, unknown_name
from bench.plan.cases import all_cases, prompts_of
from bench.store.files import sha256_of, write_bytes, write_json
from plugins_manifest.documents import read_json
from plugins_manifest.folders import refuse_foreign
from plugins_manifest.schema import Manifest, PluginSpec, Settings, plugin_sets
from plugins_manifest.schema.air import Air, pinned_air
from plugins_manifest.schema.kinds import KINDS

INDEX = "references.json"
SCHEDULERS = {"dpm++": "DPM2M", "ddim": "DDIM", "euler": "Euler", "unipc": "UniPC"}
MAX_SIDE_PX = 1024


@dataclass(frozen=True)
class Wanted:
    """One picture: `air` is the plugin's name on Civitai, `kind` one that the generator takes."""

    plugin_id: str
    air: str
    kind: str
    weight: float
    word: str | None
    case_id: str
    prompt: str
    negative_prompt: str
    seed: int

    @property
    def file_name(self) -> str:
        """Its path below the output folder."""
        return f"{self.plugin_id}/{self.case_id}-{self.seed}.png"

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"reference of {self.plugin_id!r}, case {self.case_id!r}"


def wanted_references(
    manifest: Manifest, *, plugins: Sequence[str], limit: int | None
) -> list[Wanted]:
    """Return a picture per case and seed of each plugin that the generator has, without stacks.

    `plugins` restricts them to these ids, unless it is empty. Raises `UserError` for an unknown id.
    """
    alone = {
        plugin_set.id: plugin_set
        for plugin_set in plugin_sets(manifest)
        if len(plugin_set.members) == 1
    }
    if unknown := [name for name in plugins if name not in alone]:
        raise UserError.collect([unknown_name("plugin", name, alone) for name in unknown])
    cases = all_cases(manifest, limit=limit)
    return [
        Wanted(
            plugin_id=plugin_set.id,
            air=str(pinned_air(member.plugin.source)),
            kind=member.plugin.kind,
            weight=member.weight,
            word=member.plugin.token,
            case_id=case.case_id,
            prompt=prompts_of(plugin_set, case, family=manifest.family).base,
            negative_prompt=plugin_set.negative_prompt(case.negative_prompt, "base"),
            seed=seed,
        )
        for plugin_set in alone.values()
        for member in plugin_set.members
        if (not plugins or plugin_set.id in plugins) and is_hosted(member.plugin)
        for case in cases[plugin_set.id]
        for seed in plugin_set.seeds or manifest.seeds
    ]


def is_hosted(plugin: PluginSpec) -> bool:
    """Return whether the generator has a plugin: of its kinds, on Civitai, for the base model."""
    on_site = plugin.source.startswith("urn:air:") and pinned_air(plugin.source).source == "civitai"
    return on_site and KINDS[plugin.kind].civitai_network is not None and plugin.side == "base"


def check_request(model: str, settings: Settings, wanted: Sequence[Wanted]) -> Air:
    """Return the checkpoint's name; raise one `UserError` for everything that is not supported."""
    problems = []
    if not wanted:
        problems.append(
            "no plugin of the manifest is a LoRA, LyCORIS or textual inversion on Civitai (source "
            "urn:air:...): there is nothing to render"
        )
    for side_px in settings.base_size:
        if side_px > MAX_SIDE_PX:
            problems.append(f"base_size has {side_px} px, the generator's limit is {MAX_SIDE_PX}")
    if settings.sampler not in SCHEDULERS:
        problems.append(
            f"the generator has no sampler {settings.sampler!r}: use {', '.join(SCHEDULERS)}"
        )
    try:
        air = pinned_air(model)
    except UserError as error:
        raise UserError.collect([f"--model: {error}", *problems]) from error
    if air.type != "checkpoint" or air.ecosystem != "sd1":
        problems.append(
            f"--model is {model!r}: give a checkpoint for Stable Diffusion 1.5, "
            "urn:air:sd1:checkpoint:civitai:MODEL@VERSION"
        )
    if problems:
        raise UserError.collect(problems)
    return air


def job_of(wanted: Wanted, model: Air, settings: Settings) -> dict[str, Any]:
    """Return the request in the generator's format."""
    network: dict[str, Any] = {
        "type": KINDS[wanted.kind].civitai_network,
        "strength": wanted.weight,
    }
    if KINDS[wanted.kind].needs_token:
        network["triggerWord"] = wanted.word or ""
    return {
        "model": str(model),
        "params": {
            "prompt": wanted.prompt,
            "negativePrompt": wanted.negative_prompt,
            "scheduler": SCHEDULERS[settings.sampler],
            "steps": settings.steps,
            "cfgScale": settings.guidance_scale,
            "width": settings.base_size[0],
            "height": settings.base_size[1],
            "seed": wanted.seed,
            "clipSkip": 1,
        },
        "additionalNetworks": {wanted.air: network},
    }


def render_references(
    wanted: Sequence[Wanted], out: Path, *, generator: Generator, model: Air, settings: Settings
) -> Iterator[Wanted]:
    """Render each picture that is missing in `out`; yield each one when it is finished.

    Raises `UserError` for a refused token, a lack of Buzz, and a failed job; paid pictures are
    kept, and the same call resumes.
    """
    index = _Index(out)
    for one in wanted:
        path, job = out / one.file_name, job_of(one, model, settings)
        kept = index.records.get(one.file_name, {})
        if not path.is_file() or kept.get("job") != job:
            refuse_foreign(path, lambda _, kept=kept: bool(kept), option="--out")
            token = index.pending_token(one, job) or generator.post(job, what=one.what)
            index.expect(one, job, token)  # so that a paid job survives a crash
            finished = generator.wait(token, what=one.what)
            content = generator.picture(finished.url, what=one.what)
            write_bytes(path, content)
            index.keep(one, job, finished, sha256=sha256_of(content))
        yield one


class _Index:
    """Requested and finished pictures, in one JSON file that is written after every step."""

    def __init__(self, out: Path) -> None:
        self._path = out / INDEX
        data = read_json(self._path) if self._path.is_file() else {}
        if data and not (isinstance(data, dict) and {"references", "pending"} <= data.keys()):
            raise UserError(f"{shown_path(self._path)} has other content: choose another --out")
        self.records: dict[str, Any] = data.get("references", {})
        self._pending: dict[str, Any] = data.get("pending", {})

    def pending_token(self, wanted: Wanted, job: dict[str, Any]) -> str | None:
        """Return the token of an equal job that is not finished yet."""
        pending = self._pending.get(wanted.file_name, {})
        return pending.get("token") if pending.get("job") == job else None

    def expect(self, wanted: Wanted, job: dict[str, Any], token: str) -> None:
        self._pending[wanted.file_name] = {"job": job, "token": token}
        self._write()

    def keep(self, wanted: Wanted, job: dict[str, Any], finished: Finished, *, sha256: str) -> None:
        self._pending.pop(wanted.file_name, None)
        self.records[wanted.file_name] = {
            **asdict(wanted),
            "provider": "civitai",
            "job": job,
            "job_id": finished.job_id,
            "cost_buzz": finished.cost,
            "image_sha256": sha256,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "reproducible": False,
        }
        self._write()

    def _write(self) -> None:
        write_json(self._path, {"pending": self._pending, "references": self.records})
