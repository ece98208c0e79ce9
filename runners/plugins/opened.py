"""A plugin's file, parsed against the model of its side: what every loader starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from plugins_manifest.errors import UserError
from plugins_manifest.formats import Header, ParsedPlugin, UnsafeFile, parse, read_header
from plugins_manifest.formats.side_files import read_plugin, weights_file
from plugins_manifest.formats.usable import refusal
from plugins_manifest.schema.kinds import file_kinds
from runners.audit import Audit, AuditRow, PluginNotAppliedError
from runners.base import PluginFile
from runners.families import Family
from runners.families.family import denoising_part
from runners.weights import parameters_of


@dataclass(frozen=True)
class OpenedFile:
    """The file of weights, its header, and what each of its keys is for."""

    weights: Path
    header: Header
    parsed: ParsedPlugin

    def of_network(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors without those of a base model that was saved beside a network."""
        roles = self.parsed.other_keys
        return {key: value for key, value in state.items() if roles.get(key) != "base-model"}


def open_plugin(file: PluginFile, family: Family) -> OpenedFile:
    """Find the weights of a file or folder and parse them.

    Raises `UserError` for a folder without one file of weights, for a file of another kind than
    the manifest's and for a kind that its side's model does not take, `PluginNotAppliedError` for
    a file that is not safetensors.
    """
    if denoising_part(family.pipe(file.side))[0] != "unet" and "lora" not in file_kinds(file.kind):
        raise UserError(
            f"plugin {file.plugin_id!r}: the {file.side} model of {family.name!r} is a "
            f"transformer, which takes weight plugins (kind lora) here, not {file.kind}"
        )
    try:
        weights = weights_file(file.path)
        if not weights.is_file():
            raise UserError(f"there is no file {str(weights)!r}")
        kinds = file_kinds(file.kind)
        # A network's scale is not in PEFT's settings: what may be beside it is not read.
        header = read_plugin(weights) if "lora" in kinds else read_header(weights)
    except UnsafeFile as error:
        refused = AuditRow(file.path.name, missing=True, reason=error.code, detail=str(error))
        raise PluginNotAppliedError(
            f"plugin {file.plugin_id!r}: {file.path.name} is not a safetensors file ({error}); "
            "pickled weights are never opened, convert the file to safetensors",
            Audit((refused,)),
        ) from error
    except UserError as error:
        raise UserError(f"plugin {file.plugin_id!r}: {error}") from error
    table = {name: tuple(p.shape) for name, p in side_parameters(file, family).items()}
    parsed = parse(header, table)
    why = refusal(parsed, kinds)
    if why is not None:
        raise UserError(f"plugin {file.plugin_id!r}: {weights.name}: {why}")
    return OpenedFile(weights, header, parsed)


def side_parameters(file: PluginFile, family: Family) -> dict[str, nn.Parameter]:
    """Return the parameters, by canonical name, that a plugin of this side may change."""
    pipe = family.pipe(file.side)
    names = ("text_encoder", "text_encoder_2")
    encoders = [(name, getattr(pipe, name, None)) for name in names]
    return parameters_of([denoising_part(pipe), *encoders])
