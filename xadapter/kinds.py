"""Architectures of mappers by name (entry-point group `xbench.mappers`), as their files name them.

A mapper file carries its architecture as JSON in the safetensors metadata: the name of a kind, the
kind's version, and a configuration from which it is built. Files without it have the released
checkpoint's layout. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import UserError
from plugins_manifest.installed import describe_entry, extension_errors, load_entry
from xadapter.errors import MapperFileError, XAdapterError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import nn

METADATA_KEY = "mapper"
_MOST_CHARACTERS = 65_536
_ATTRIBUTE = "architecture"


class MapperKind(Protocol):
    """An architecture: it is configured for two UNets, and built from its configuration.

    `version` grows when `build` makes other modules of the same configuration. Optional:
    `options`, a pydantic model of a recipe's options, which reports all mistakes at once.
    """

    name: str
    version: int

    def configure(
        self,
        base_unet: UNet2DConditionModel,
        upgraded_unet: UNet2DConditionModel,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return JSON data from which `build` makes a mapper between the two UNets."""
        ...

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """Return a mapper with random weights that changes nothing yet.

        The configuration is untrusted where it comes from a file.
        """
        ...


@dataclass(frozen=True)
class Architecture:
    """A kind of mapper, and the configuration of one mapper."""

    name: str
    version: int
    config: Mapping[str, Any]

    def to_json(self) -> str:
        """Return the text for a file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)


def find_kind(name: str) -> MapperKind:
    """Return an installed kind; `UserError` names the nearest."""
    return load_entry("mappers", name, contract=MapperKind)


def configured(
    name: str,
    base_unet: UNet2DConditionModel,
    upgraded_unet: UNet2DConditionModel,
    options: Mapping[str, Any],
) -> Architecture:
    """Return the architecture of a kind between two UNets; `UserError` for wrong options."""
    kind = find_kind(name)
    with _kind_errors(name, f"cannot be made with {dict(options)}"):
        return Architecture(
            name, kind.version, kind.configure(base_unet, upgraded_unet, dict(options))
        )


def build(architecture: Architecture) -> nn.Module:
    """Return a new mapper of an architecture; `UserError` for a configuration that has none."""
    kind = kind_of(architecture)
    with _kind_errors(architecture.name, "cannot be built from this configuration"):
        mapper = kind.build(architecture.config)
        setattr(mapper, _ATTRIBUTE, architecture)
    return mapper


def kind_of(architecture: Architecture) -> MapperKind:
    """Return the installed kind of an architecture; `UserError` where it has another version."""
    kind = find_kind(architecture.name)
    if architecture.version != kind.version:
        raise UserError(
            f"the mapper is of version {architecture.version} of {architecture.name!r}, version "
            f"{kind.version} is installed: install the package that it was trained with"
        )
    return kind


@contextmanager
def _kind_errors(name: str, failure: str) -> Iterator[None]:
    what = describe_entry("mappers", name)
    with extension_errors(what, failure):
        try:
            yield
        except XAdapterError as error:
            raise UserError(str(error)) from error
        except (TypeError, ValueError) as error:
            raise UserError(f"{what} {failure}: {error}") from error


def architecture_of(mapper: nn.Module) -> Architecture | None:
    """Return the architecture that a mapper was built from; None for one made by its class."""
    return getattr(mapper, _ATTRIBUTE, None)


def read_architecture(metadata: Mapping[str, str], *, source: str) -> Architecture | None:
    """Return the architecture in a file's metadata; None for the released layout.

    Raises `MapperFileError` for anything else.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        return None
    if len(text) > _MOST_CHARACTERS:
        raise MapperFileError(
            f"{source}: its architecture has {len(text)} characters, at most {_MOST_CHARACTERS} "
            "are read: download it again"
        )
    try:
        data = parse_json(text, name=f"the architecture in {source}")
    except UserError as error:
        raise MapperFileError(str(error)) from error
    match data:
        case {"name": str(name), "version": int(version), "config": dict(config)}:
            return Architecture(name, version, config)
    raise MapperFileError(
        f"{source}: its architecture is not a name, a version and a config: download it again"
    )
