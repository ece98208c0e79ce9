"""Layout of a mapper file: tensor names and shapes, and the configuration that follows from them.

Imports no torch, so a file can be checked by its header alone. The names are those of the released
checkpoint; files saved from a wrapper module have a prefix such as `module.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from plugins_manifest.text import shortened
from xadapter.errors import MapperFileError

N_BRANCHES = 3
FOLDER_WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLED_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
# everything before the first body.N. or zero_out.N.
_PREFIX = re.compile(r"^.*?(?=(?:body|zero_out)\.\d+\.)")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class MapperLayout:
    """Widths per branch, blocks per branch, and the name in the file of each mapper tensor."""

    in_channels: Shape
    out_channels: Shape
    n_blocks: int
    stored_names: Mapping[str, str]


def mapper_file(path: Path) -> Path:
    """Return the weight file of a mapper's folder or file; raise `MapperFileError` if missing."""
    file = path / FOLDER_WEIGHTS if path.is_dir() else path
    if not file.exists():
        if (path / "mapper" / FOLDER_WEIGHTS).is_file():
            raise MapperFileError(f"it is the folder of a training: use {path / 'mapper'}")
        raise MapperFileError(f"there is no mapper at {file}: check the path")
    if file.suffix not in {".safetensors", *PICKLED_SUFFIXES}:
        known = ", ".join((".safetensors", *PICKLED_SUFFIXES))
        raise MapperFileError(f"{file} has an unknown ending; use a folder or one of {known}")
    return file


def mapper_layout(shapes: Mapping[str, Shape], *, source: str = "the state") -> MapperLayout:
    """Infer a mapper's layout from tensor shapes by stored name, without prefixes.

    Raises `MapperFileError` with the names and shapes that differ from a mapper's.
    """
    stored = _bare_names(shapes, source)
    found = {name: tuple(shapes[key]) for name, key in stored.items()}
    blocks = {int(m[1]) for name in found if (m := re.match(r"body\.(\d+)\.", name))}
    ends = [found.get(f"zero_out.{i}.weight", ()) for i in range(N_BRANCHES)]
    if not blocks or len(blocks) % N_BRANCHES or not all(ends):
        names = shortened(sorted(found)) or "none"
        raise MapperFileError(
            f"{source} is not a mapper: expected body.N.block1.weight for N in three branches and "
            f"zero_out.0 to zero_out.{N_BRANCHES - 1}, found {len(found)} keys ({names})"
        )
    # closing convolutions keep the width; without in_conv a branch does not change it
    n_blocks = len(blocks) // N_BRANCHES
    outs = tuple(end[0] for end in ends)
    firsts = [found.get(f"body.{i * n_blocks}.in_conv.weight", ()) for i in range(N_BRANCHES)]
    ins = tuple(w[1] if len(w) > 1 else out for w, out in zip(firsts, outs, strict=True))
    check_shapes(mapper_shapes(ins, outs, n_blocks), found, source)
    return MapperLayout(ins, outs, n_blocks, stored)


def mapper_shapes(in_channels: Shape, out_channels: Shape, n_blocks: int) -> dict[str, Shape]:
    """Return the shape of every tensor of a mapper, by name."""
    shapes: dict[str, Shape] = {}

    def add_layer(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = (weight[0],)

    for i, (width_in, width) in enumerate(zip(in_channels, out_channels, strict=True)):
        first = f"body.{i * n_blocks}"
        if width_in != width:
            add_layer(f"{first}.in_conv", width, width_in, 3, 3)
        if i == N_BRANCHES - 1:
            add_layer(f"{first}.up_opt.op", width_in, width_in, 3, 3)
        for j in range(i * n_blocks, (i + 1) * n_blocks):
            add_layer(f"body.{j}.block1", width, width, 3, 3)
            add_layer(f"body.{j}.block2", width, width, 3, 3)
        add_layer(f"zero_out.{i}", width, width, 1, 1)
    return shapes


def _bare_names(keys: Iterable[str], source: str) -> dict[str, str]:
    stored: dict[str, str] = {}
    for key in keys:
        name = _PREFIX.sub("", key)
        if name in stored:
            raise MapperFileError(
                f"{source} contains two mappers ({stored[name]} and {key}): save one of them alone"
            )
        stored[name] = key
    return stored


def check_shapes(expected: Mapping[str, Shape], found: Mapping[str, Shape], source: str) -> None:
    """Raise `MapperFileError` with the names and shapes that differ from a mapper's."""
    problems = []
    if missing := sorted(expected.keys() - found.keys()):
        problems.append(f"missing {shortened(missing)}")
    if extra := sorted(found.keys() - expected.keys()):
        problems.append(f"unknown {shortened(extra)}")
    wrong = [
        f"{name} is {found[name]}, a mapper's is {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    if wrong:
        problems.append(f"wrong shapes: {shortened(wrong)}")
    if problems:
        raise MapperFileError(f"{source} is not a mapper: " + "; ".join(problems))
