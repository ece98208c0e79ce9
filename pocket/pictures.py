"""Pictures of scenes as files with captions, for trainers of plugins.

The layout is that of Hugging Face's `imagefolder`: metadata.jsonl has `file_name` and `text`.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from plugins_manifest.files import atomic_write
from pocket.scenes import Style, caption, render, scene_at

METADATA = "metadata.jsonl"


def picture_name(index: int) -> str:
    """Return the file name of a picture."""
    return f"{index:05d}.png"


def write_pictures(
    folder: Path, *, n_pictures: int, seed: int, size_px: int, style: Style = "flat"
) -> None:
    """Write the first scenes of a seed in a style as 00000.png, ..., with their plain captions."""
    lines = []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(n_pictures):
        scene = scene_at(seed, index)
        name = picture_name(index)
        rgb = render(scene, style, size_px)
        done, content = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        if not done:
            raise OSError(f"{name} cannot be encoded")
        atomic_write(folder / name, content.tobytes())
        lines.append(json.dumps({"file_name": name, "text": caption(scene)}))
    atomic_write(folder / METADATA, "\n".join([*lines, ""]))
