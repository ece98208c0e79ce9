"""What is known of a plugin file without its values: the interface of parsing and tensor math.

`parse` (formats/parse.py) makes these; `runners/weights` applies them and never parses keys again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from plugins_manifest.errors import UserError

BaseModel = str
"""`sd1`, `sd2`, `sdxl`, the name of another model of formats/catalog.py, or `unknown`."""

ModuleTable = Mapping[str, tuple[int, ...]]
"""Canonical parameter name -> shape, of a base model's UNet and text encoder."""


class UnsafeFile(UserError):  # noqa: N818 (a file, not a fault of ours)
    """A file that is refused before anything in it is used; `code` is one of reasons.UNSAFE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Caps:
    """Limits of files that are read; sizes in bytes, names in characters."""

    file_bytes: int = 16 * 2**30
    header_bytes: int = 17 * 2**20
    metadata_bytes: int = 16 * 2**20  # Civitai's own cap
    n_metadata: int = 2_000
    n_tensors: int = 20_000
    name_length: int = 512
    n_dims: int = 8
    side: int = 2**31 - 1


CAPS = Caps()


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: dtype in safetensors' spelling, shape, byte range in the payload."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A safetensors header that passed all checks; the metadata is unescaped text.

    `settings` is the text of PEFT's adapter_config.json where one belongs to the file.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    payload_start: int
    file_bytes: int
    settings: str | None = None


@dataclass(frozen=True)
class Problem:
    """Why a part of a file cannot be applied; `reason` is a code of formats/reasons.py.

    `subject` is the module or the key, as written in the file; "" for the file itself.
    """

    reason: str
    message: str
    subject: str = ""

    def __iter__(self) -> Iterator[str]:
        """Unpack as (reason, message)."""
        return iter((self.reason, self.message))


@dataclass(frozen=True)
class ModuleChange:
    """One change of one parameter: the formula, and the key of the file for each of its parts.

    `target` is the parameter's canonical name, diffusers' own with the model in front:
    `unet.mid_block.attentions.0.proj_in.weight`,
    `text_encoder.encoder.layers.0.self_attn.q_proj.bias` (no `text_model.` level).
    `alpha` is the value from the file's settings if no key holds it, converted so that the scale
    is alpha / rank. With neither, alpha is the rank. `factor` multiplies a change that has no rank
    (PEFT's whole LoKr, and the bias of a LoRA).
    """

    target: str
    formula: str
    parts: Mapping[str, str]
    alpha: float | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class ParsedPlugin:
    """A file's keys, each counted once: in a change, with a role in `other_keys`, or as unknown.

    `format` is the file's layout (formats/layouts.py), `kind` one of lora, lycoris, controlnet,
    t2i-adapter, ip-adapter, textual-inversion, or `unsupported:<what>`. A file of kind `lora` has
    only lora and dora changes; every other formula makes it `lycoris`.
    `unknown_keys` are all keys that nothing uses, those of unmatched modules included.
    `other_keys` maps key -> role: `network` (weights of a network), `embedding:<token>`.
    `notes` are assumptions that a reader of the file has to know; nothing is refused for them.
    """

    format: str
    kind: str
    base_model: BaseModel
    changes: tuple[ModuleChange, ...] = ()
    unknown_keys: tuple[str, ...] = ()
    unmatched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    other_keys: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def embeddings(self) -> Mapping[str, tuple[str, ...]]:
        """Token -> keys of its vectors, including those bundled in a LoRA."""
        found: dict[str, tuple[str, ...]] = {}
        for key, role in self.other_keys.items():
            if role.startswith("embedding:"):
                token = role.removeprefix("embedding:")
                found[token] = (*found.get(token, ()), key)
        return found


@dataclass(frozen=True)
class FileParser:
    """How one kind of file is recognized and parsed.

    `layouts` maps the names of the kind's layouts to their keys, in words. `recognizes` gets the
    files that no parser before this one recognizes (formats/parse.py has the order).
    """

    layouts: Mapping[str, str]
    recognizes: Callable[[Header, ModuleTable], bool]
    parse: Callable[[Header, ModuleTable], ParsedPlugin]
