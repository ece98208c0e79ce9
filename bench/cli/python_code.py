"""Python code that makes one image of a run again, with diffusers.

Methods `base`, `floor`, `oracle`, `converted` and `sdedit` need diffusers alone, `xadapter` the
package `xadapter`. All noise is drawn in float32 on the CPU from one generator, in the order of
`xadapter.noise.CORRECTED_ORDER`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import UserError
from bench.plan.adapters import adapter_of_trial
from bench.plan.plugin_files import NotFetchedError, resolve_plugin
from bench.registry import find_method
from bench.store import Row, RunStore
from bench.store.documents import parse_json
from plugins_manifest.cases import Case
from plugins_manifest.schema import Manifest, PluginSpec, Settings, parse_reference
from plugins_manifest.schema.stacks import PluginInSet, arrange_sets
from plugins_manifest.schema.words import Side
from plugins_manifest.sources.hub import HubReference
from runners.base import PRESET_SEMANTICS, SAMPLERS, generator_seed
from runners.families import family_traits
from runners.families.traits import DiffusersModel, DiffusersParts
from runners.protocols import arrangement_of, stage1_mode_of

METHODS = ("base", "floor", "oracle", "converted", "sdedit", "xadapter")
_KINDS = ("lora", "controlnet", "textual_inversion")
_RESULT = "again.png"


class NoCodeError(UserError):
    """Why an image cannot be made again with diffusers."""


def python_code(store: RunStore, trial: Row) -> str:
    """Return a script that writes the trial's image; raise `NoCodeError` if there is none."""
    return _Script.of(store, trial).text()


def settings_of_trial(trial: Row, manifest: Manifest) -> Settings:
    """Return the settings of the trial's image: the manifest's, or its plugin's own."""
    own = parse_json(trial.get("settings") or "{}", name="column settings")
    skip = trial.get("clip_skip")
    return manifest.settings.model_copy(update={**own, "clip_skip": skip and int(skip)})


@dataclass
class _Script:
    store: RunStore
    trial: Row
    manifest: Manifest
    settings: Settings
    case: Case
    parts: DiffusersParts
    members: Sequence[PluginInSet]
    names: set[str] = field(default_factory=set)  # of diffusers

    @classmethod
    def of(cls, store: RunStore, trial: Row) -> _Script:
        manifest = store.manifest()
        given = store.run_facts().get("selection", {}).get("adapter")
        adapter = adapter_of_trial(manifest, given and Path(given), trial["adapter"])
        parts = family_traits(manifest.family).diffusers_parts(adapter)
        if parts is None:
            raise NoCodeError(f"the family {manifest.family!r} names no diffusers_parts")
        members: Sequence[PluginInSet] = ()
        if trial["plugin"]:
            arranged = arrange_sets(manifest, arrangement_of(find_method(trial["method"])))
            members = arranged[trial["plugin"]].members
        case, settings = store.cases()[trial["case_id"]], settings_of_trial(trial, manifest)
        script = cls(store, trial, manifest, settings, case, parts, members)
        if problems := list(script._problems()):
            raise NoCodeError.collect(problems)
        return script

    def text(self) -> str:
        """Return the script."""
        body = [line for block in self._blocks() for line in (*block, "")]
        libraries = ["import torch"]
        if any("F.interpolate" in line for line in body):
            libraries.append("import torch.nn.functional as F")
        if self.names:
            names = (f"    {name}," for name in sorted(self.names))
            libraries += ["from diffusers import (", *names, ")"]
        if any("hf_hub_download(" in line for line in body):
            libraries.append("from huggingface_hub import hf_hub_download")
        if any("Image.open(" in line for line in body):
            libraries.append("from PIL import Image")
        if any("load_file(" in line for line in body):
            libraries.append("from safetensors.torch import load_file")
        if self._is_joined:
            libraries += ["", "from xadapter import XAdapter"]
        return "\n".join([*self._header(), *libraries, "", *body]).rstrip() + "\n"

    # --- what cannot be written

    def _problems(self) -> Iterator[str]:
        method, settings = self.trial["method"], self.settings
        if method not in METHODS:
            yield f"there is no code for the method {method!r}: {', '.join(METHODS)} have it"
        if settings.preset == "released" and not self._is_joined:
            yield "the preset 'released' has a solver of its own, which diffusers lacks"
        sampler = SAMPLERS[settings.sampler]
        if sampler.most_steps is not None or (sampler.spacing and self._is_joined):
            yield f"the sampler {settings.sampler!r} steps with noise or on a grid of its own"
        if settings.prompt_syntax != "plain":
            yield "diffusers reads no weights of words ('prompt_syntax: weights')"
        if (settings.clip_skip or 1) > 1:
            yield "diffusers' clip_skip leaves the negative prompt as it is"
        for member in self.members:
            spec = member.plugin
            what = f"plugin {spec.id!r}"
            semantics = spec.lora_semantics or PRESET_SEMANTICS[settings.preset]
            if spec.kind not in _KINDS:
                yield f"{what}: there is no code for the kind {spec.kind!r}"
            elif spec.kind == "lora" and semantics != "standard":
                yield f"{what}: diffusers has no lora_semantics {semantics!r}"
            if spec.kind == "controlnet" and spec.side == "upgraded" and self._needs("base"):
                yield f"{what}: there is no code for ControlNets of the upgraded side"
        if self._is_joined and not self._is_twice_the_base_size():
            yield "XAdapter makes images of twice the base size alone"
        if self._is_joined and self._base_negative() != self.case.negative_prompt:
            yield "XAdapter takes one negative prompt for both models"
        is_sd = self.parts.upgraded.pipeline == "StableDiffusionPipeline"
        if method == "sdedit" and is_sd and settings.dtype != "float32":
            yield "image-to-image of Stable Diffusion draws its noise in half precision"

    @property
    def _is_joined(self) -> bool:
        return self.trial["method"] == "xadapter"

    def _needs(self, side: Side) -> bool:
        one_stage = dict.fromkeys(("floor", "oracle", "converted"), ("upgraded",))
        sides = {"base": ("base",), **one_stage}
        return side in sides.get(self.trial["method"], ("base", "upgraded"))

    def _is_twice_the_base_size(self) -> bool:
        settings = self.settings
        return tuple(2 * side for side in settings.base_size) == settings.upgraded_size

    def _base_negative(self) -> str:
        tokens = [m.plugin.token for m in self.members if m.plugin.polarity == "negative"]
        return ", ".join(text for text in (self.case.negative_prompt, *tokens) if text)

    # --- blocks

    def _header(self) -> Iterator[str]:
        trial, versions = self.trial, self.store.run_facts().get("versions", {})
        settings = {"t0": trial["t0"], "adapter scale": trial["adapter_scale"]}
        texts = [f"{name} {value:g}" for name, value in settings.items() if value is not None]
        what = [f"method {trial['method']}", f"plugin {trial['plugin'] or 'none'}", *texts]
        yield f"# Trial {trial['trial_id']}: {', '.join(what)}"
        yield f"# case {trial['case_id']}, seed {trial['seed']}"
        known = ", ".join(f"{name} {versions[name]}" for name in _LIBRARIES if name in versions)
        if known:
            yield f"# rendered with {known}"

    def _blocks(self) -> Iterator[list[str]]:
        yield list(self._preparation())
        if self._needs("base"):
            yield list(self._model("base"))
        if self._needs("upgraded"):
            yield list(self._model("upgraded"))
        method = self.trial["method"]
        if method == "xadapter":
            yield list(self._joined())
        elif method == "base":
            yield list(self._stage1())
        elif method == "sdedit":
            yield list(self._stage1(output_type="latent"))
            yield list(self._sdedit())
        else:
            yield list(self._alone())
        yield [f'image.save("{_RESULT}")']

    def _preparation(self) -> Iterator[str]:
        self.names.add(self._solver)
        seed = generator_seed(int(self.trial["seed"]), self.trial["case_id"])
        yield f"dtype = torch.{self.settings.dtype}"
        yield f"seed = {seed}  # from case id and seed"
        if not self._is_joined:
            folder = 'subfolder="scheduler"'
            upgraded = ", ".join(_arguments(self.parts.upgraded, folder, variant=False))
            yield 'generator = torch.Generator("cpu").manual_seed(seed)'
            yield f"grid = {self._solver}.load_config({upgraded})"
            yield "solver = {  # both models step on the upgraded model's grid"
            spacing = SAMPLERS[self.settings.sampler].spacing
            own = f'"{spacing}"' if spacing else 'grid.get("timestep_spacing") or "leading"'
            yield f'    "timestep_spacing": {own},'
            yield '    "steps_offset": grid.get("steps_offset", 1),'
            yield '    "clip_sample": False,'
            yield "}"
            yield from ("", "", "def noise(width, height):")
            yield "    return torch.randn((4, height // 8, width // 8), generator=generator)[None]"
            yield ""

    @property
    def _solver(self) -> str:
        return SAMPLERS[self.settings.sampler].scheduler

    def _model(self, side: Side) -> Iterator[str]:
        model = self.parts.base if side == "base" else self.parts.upgraded
        members = [m for m in self.members if m.plugin.side == side]
        nets = [m for m in members if m.plugin.kind == "controlnet"]
        options = ["dtype=dtype"]
        if side == "upgraded" and self.parts.upgraded_vae is not None:
            self.names.add("AutoencoderKL")
            vae = ", ".join(_arguments(self.parts.upgraded_vae, "dtype=dtype"))
            yield f"vae = AutoencoderKL.from_pretrained({vae})"
            options.append("vae=vae")
        if model.pipeline == "StableDiffusionPipeline":
            options += ["safety_checker=None", "requires_safety_checker=False"]
            options.append("feature_extractor=None")
        for i, member in enumerate(nets):
            self.names.add("ControlNetModel")
            yield from self._controlnet(f"{side}_net_{i}", member.plugin)
        kind = self._pipeline(side, has_nets=bool(nets) and not self._is_joined)
        if nets and not self._is_joined:
            options.append(f"controlnet=[{', '.join(f'{side}_net_{i}' for i in range(len(nets)))}]")
        self.names.add(kind)
        yield f"{side} = {kind}.from_pretrained("
        yield from (f"    {argument}," for argument in _arguments(model, *options))
        yield ")"
        if not self._is_joined:
            config = f"{side}.scheduler.config"
            yield f"{side}.scheduler = {self._solver}.from_config({config}, **solver)"
        loras = [m for m in members if m.plugin.kind == "lora"]
        for i, member in enumerate(loras):
            source = _weights(self._file(member.plugin), member.plugin)
            yield f'{side}.load_lora_weights({source}, adapter_name="lora_{i}")'
        if loras:
            names = [f"lora_{i}" for i in range(len(loras))]
            scales = [self._strength(m) for m in loras]
            yield f"{side}.set_adapters({json.dumps(names)}, {scales})"
        for member in members:
            if member.plugin.kind == "textual_inversion":
                yield from self._embedding(side, member)

    def _pipeline(self, side: Side, *, has_nets: bool) -> str:
        model = self.parts.base if side == "base" else self.parts.upgraded
        name = model.pipeline or "StableDiffusionPipeline"
        if has_nets:
            name = name.replace("Pipeline", "ControlNetPipeline")
        if side == "upgraded" and self.trial["method"] == "sdedit":
            name = name.replace("Pipeline", "Img2ImgPipeline")
        return name

    def _controlnet(self, name: str, spec: PluginSpec) -> Iterator[str]:
        path = self._file(spec)
        if path is not None and path.is_file():
            yield f"{name} = ControlNetModel.from_single_file({str(path)!r}, dtype=dtype)"
            return
        yield f"{name} = ControlNetModel.from_pretrained({_weights(path, spec)}, dtype=dtype)"

    def _embedding(self, side: Side, member: PluginInSet) -> Iterator[str]:
        spec, path = member.plugin, self._file(member.plugin)
        token, strength = spec.token or spec.trigger or "", self._strength(member)
        yield f"tensors = load_file({str(path or spec.source)!r})"
        yield 'vectors = tensors.get("clip_l", next(iter(tensors.values())))'
        yield f"{side}.load_textual_inversion({{{token!r}: {strength} * vectors}})"

    def _strength(self, member: PluginInSet) -> float:
        scale = self.trial["plugin_scale"]
        if member.plugin.side == "upgraded" or scale is None:
            return member.weight
        return member.weight * float(scale)

    def _file(self, spec: PluginSpec) -> Path | None:
        """Return a plugin's path on this machine; None if it is not here."""
        try:
            return resolve_plugin(spec, self.manifest).path.resolve()
        except NotFetchedError:
            return None

    def _controls(self, side: Side) -> tuple[list[str], list[float]]:
        """Return the code of the condition images of a side, and the scales of its ControlNets."""
        paths = parse_json(self.trial["conditions"] or "{}", name="column conditions")
        nets = [m for m in self.members if m.plugin.side == side and m.plugin.kind == "controlnet"]
        files = [str((self.store.folder / paths[m.plugin.id]).resolve()) for m in nets]
        images = [f"Image.open({file!r})" for file in files]
        return images, [self._strength(m) for m in nets]

    def _call(self, side: Side, prompt: str, negative: str) -> Iterator[str]:
        settings = self.settings
        yield f"    prompt={prompt!r},"
        yield f"    negative_prompt={negative or None!r},"
        yield f"    num_inference_steps={settings.steps},"
        yield f"    guidance_scale={settings.guidance_scale},"

    def _with_controls(self, side: Side) -> Iterator[str]:
        images, scales = self._controls(side)
        if images:
            yield f"    image=[{', '.join(images)}],"
            yield f"    controlnet_conditioning_scale={scales},"

    def _stage1(self, *, output_type: str = "pil") -> Iterator[str]:
        width, height = self.settings.base_size
        result = "image = base(" if output_type == "pil" else "latents = base("
        yield result
        yield from self._call("base", self.trial["base_prompt"], self._base_negative())
        yield from self._with_controls("base")
        yield f"    width={width},"
        yield f"    height={height},"
        yield f"    latents=noise({width}, {height}).to(dtype),"
        yield f'    output_type="{output_type}",'
        yield ").images[0]" if output_type == "pil" else ").images"

    def _alone(self) -> Iterator[str]:
        settings = self.settings
        width, height = settings.upgraded_size
        base_width, base_height = settings.base_size
        yield f"noise({base_width}, {base_height})  # that of the base model, in the same order"
        yield f"noise({width}, {height})"
        yield "image = upgraded("
        yield from self._call("upgraded", self.trial["upgraded_prompt"], self.case.negative_prompt)
        yield from self._with_controls("upgraded")
        yield f"    width={width},"
        yield f"    height={height},"
        yield f"    latents=noise({width}, {height}).to(dtype),"
        yield ").images[0]"

    def _sdedit(self) -> Iterator[str]:
        settings = self.settings
        width, height = settings.upgraded_size
        n_last = max(1, round(settings.steps * float(self.trial["t0"])))
        is_xl = self.parts.upgraded.pipeline == "StableDiffusionXLPipeline"
        yield "with torch.no_grad():"
        yield "    latents = latents / base.vae.config.scaling_factor"
        yield "    picture = base.vae.decode(latents).sample.float().clamp(-1, 1)"
        yield f"    size = ({height}, {width})"
        yield '    picture = F.interpolate(picture, size=size, mode="bicubic", antialias=True)'
        yield "    posterior = upgraded.vae.encode(picture.to(upgraded.vae.dtype)).latent_dist"
        yield f"    latents = posterior.mean + posterior.std * noise({width}, {height})"
        yield "    latents = latents.float() * upgraded.vae.config.scaling_factor"
        if is_xl:
            yield f"upgraded.scheduler.set_timesteps({settings.steps})"
            yield f"first = upgraded.scheduler.timesteps[-{n_last}:][:1]  # the last {n_last} steps"
            yield f"own = noise({width}, {height})"
            yield "latents = upgraded.scheduler.add_noise(latents, own, first)"
            yield "n_train = upgraded.scheduler.config.num_train_timesteps"
        yield "image = upgraded("
        yield from self._call("upgraded", self.trial["upgraded_prompt"], self.case.negative_prompt)
        yield "    image=latents.to(dtype),"
        if is_xl:
            yield "    denoising_start=1 - (int(first) + 1) / n_train,  # adds no noise of its own"
        else:
            strength = min(1.0, (n_last + 0.5) / settings.steps)
            yield f"    strength={strength:.6g},  # the last {n_last} steps"
            yield "    generator=generator,"
        yield ").images[0]"

    def _joined(self) -> Iterator[str]:
        settings, trial = self.settings, self.trial
        images, scales = self._controls("base")
        width, height = settings.upgraded_size
        mapper = self.parts.mapper
        if mapper is None:
            source = "'X_Adapter_v1.bin'"
        elif mapper.file is not None:
            source = f"hf_hub_download({mapper.source!r}, {mapper.file!r}, "
            source += f"revision={mapper.revision!r})"
        else:
            source = repr(mapper.source)
        yield f"mapper = {source}"
        yield f"joined = XAdapter.from_pipelines(base, upgraded, mapper, {settings.preset!r})"
        yield "image = joined("
        yield f"    {trial['upgraded_prompt']!r},"
        yield f"    {trial['base_prompt']!r},"
        yield f"    negative_prompt={self.case.negative_prompt or None!r},"
        yield f"    t0={float(trial['t0'])},"
        yield f"    adapter_scale={float(trial['adapter_scale'])},"
        yield f"    steps={settings.steps},"
        yield f"    guidance_scale={settings.guidance_scale},"
        yield "    seeds=[seed],"
        yield f"    width={width},"
        yield f"    height={height},"
        if images:
            nets = ", ".join(f"base_net_{i}" for i in range(len(images)))
            yield f"    controlnets=[{nets}],"
            yield f"    control_images=[{', '.join(images)}],"
            yield f"    control_scale={scales},"
        mode = stage1_mode_of(find_method(trial["method"]), settings)
        yield f"    stage1={mode!r},"
        if settings.preset != "released":
            yield f"    scheduler={self._solver},"
        else:
            self.names.discard(self._solver)
        yield ").images[0]"


_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "xbench")


def _arguments(model: DiffusersModel, *more: str, variant: bool = True) -> list[str]:
    """Return the arguments of `from_pretrained` for a model."""
    found = [repr(model.source)]
    if model.revision is not None:
        found.append(f"revision={model.revision!r}")
    if variant and model.variant is not None:
        found.append(f"variant={model.variant!r}")
    return [*found, *more]


def _weights(path: Path | None, spec: PluginSpec) -> str:
    """Return the arguments that name a plugin's weights: on the Hub, here, or to be filled in."""
    reference = parse_reference(spec.source)
    if isinstance(reference, HubReference):
        found = [repr(reference.repository)]
        if reference.revision:
            found.append(f"revision={reference.revision!r}")
        folder, _, file = reference.path.rpartition("/")
        if folder:
            found.append(f"subfolder={folder!r}")
        if file:
            found.append(f"weight_name={file!r}")
        return ", ".join(found)
    if path is None:
        return repr(f"PATH OF {spec.source}")
    if path.is_file():
        return f"{str(path.parent)!r}, weight_name={path.name!r}"
    return repr(str(path))
