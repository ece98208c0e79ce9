"""What a LoRA was made for, by its names and metadata: few steps, or skipped text layers.

Distilled LoRAs (LCM, Hyper-SD, Lightning, Turbo, TCD, PCM, DMD) act with few steps and next to no
guidance; with the usual settings their images are burnt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

MOST_STEPS, MOST_GUIDANCE = 12, 3.0
# of files that libraries write: the folder or the repository has the name
COMMON_NAMES = ("pytorch_lora_weights", "adapter_model", "diffusion_pytorch_model", "model")
_TITLES = ("modelspec.title", "ss_output_name")
_CLIP_SKIP = "ss_clip_skip"
_CAPITALS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STEPS = re.compile(r"(\d+) ?steps?(?![a-z])")
_MODEL = r"(?:sd ?xl|sd ?v?1 ?5|sd|xl)"


@dataclass(frozen=True)
class FewSteps:
    """A method of distillation with the settings that its LoRAs need."""

    name: str
    sampler: str
    steps: int = 4
    takes_guidance: bool = False

    @property
    def settings(self) -> str:
        """The settings as a manifest has them."""
        guidance = "" if self.takes_guidance else "guidance_scale: 1, "
        return f"settings: {{steps: {self.steps}, {guidance}sampler: {self.sampler}}}"

    def suits(self, steps: int, guidance_scale: float) -> bool:
        """Return whether images of these settings are as intended, more or less."""
        return steps <= MOST_STEPS and (self.takes_guidance or guidance_scale <= MOST_GUIDANCE)


def _word(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z]){pattern}(?![a-z])")


def _beside_a_model(word: str) -> re.Pattern[str]:
    """Match a word that has other meanings where it names a model: with it, or as "WORD lora"."""
    return re.compile(
        rf"(?<![a-z]){_MODEL} ?{word}(?![a-z])|(?<![a-z]){word} ?(?:{_MODEL}|lora)(?![a-z])"
        rf"|(?<![a-z]){word}(?![a-z]).*\d ?steps?(?![a-z])|\d ?steps? .*(?<![a-z]){word}(?![a-z])"
    )


# The first match counts: names combine them ("LCM_Turbo_Mix").
_KINDS: tuple[tuple[re.Pattern[str], FewSteps], ...] = (
    (_word("lcm"), FewSteps("LCM", "lcm")),
    (_word("tcd"), FewSteps("TCD", "tcd")),
    (_word("pcm"), FewSteps("PCM", "ddim-trailing")),
    (_word("dmd2?"), FewSteps("DMD", "lcm")),
    (_beside_a_model("hyper"), FewSteps("Hyper-SD", "ddim-trailing")),
    (_beside_a_model("lightning"), FewSteps("Lightning", "euler-trailing")),
    (_beside_a_model("turbo"), FewSteps("Turbo", "euler-trailing")),
    (_beside_a_model("flash"), FewSteps("Flash", "lcm")),
)
_WITH_GUIDANCE = re.compile(r"(?<![a-z])(?:normal ?)?cfg(?![a-z])")


def file_names(name: str, folder: str) -> tuple[str, ...]:
    """Return what a file is called: its name, and its folder's where the name says nothing."""
    return (name, folder) if name.rpartition(".")[0] in COMMON_NAMES else (name,)


def few_steps(names: Iterable[str], metadata: Mapping[str, str]) -> FewSteps | None:
    """Return how a LoRA was distilled for few steps; None for one that was not.

    `names` are those of its file, its repository, its page.
    """
    for text in map(_plain, [*names, *(metadata.get(key, "") for key in _TITLES)]):
        for pattern, kind in _KINDS:
            if pattern.search(text):
                found = _STEPS.search(text)
                steps = int(found[1]) if found and 0 < int(found[1]) <= MOST_STEPS else kind.steps
                takes_guidance = _WITH_GUIDANCE.search(text) is not None
                return FewSteps(kind.name, kind.sampler, steps, takes_guidance)
    return None


def _plain(name: str) -> str:
    """Return a name in lower case, its words apart: "HyperSD15-8steps" is "hyper sd15 8steps"."""
    words = re.split(r"[\W_]+", _CAPITALS.sub(" ", name[:500]))
    return " ".join(words).lower().strip()


def stated_clip_skip(metadata: Mapping[str, str]) -> int | None:
    """Return the clip skip that kohya's trainers wrote, 1 for the last layer; None without one."""
    text = metadata.get(_CLIP_SKIP, "")
    return int(text) if re.fullmatch(r"[1-9]\d?", text) else None


def notes_of(names: Iterable[str], metadata: Mapping[str, str]) -> Iterator[str]:
    """Yield what a manifest with the file should have, for readers of an inspection."""
    if (found := few_steps(names, metadata)) is not None:
        yield f"looks like a {found.name} LoRA, made for few steps: give it {found.settings}"
    if (skip := stated_clip_skip(metadata) or 1) > 1:
        fix = f"settings: {{clip_skip: {skip}}}"
        yield f"trained with clip skip {skip} ({_CLIP_SKIP}): give it {fix}"
