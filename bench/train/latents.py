"""Encode pictures and captions for both models, and keep the results in shards.

A shard is a safetensors file (float16) of up to some hundred pictures of one size, written at once,
so that whatever ends a process, what it finished is there. The folder's name has the hash of both
VAEs and all text encoders, a picture's key that of its bytes, its caption and its size.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.errors import UserError, disk_error, shown_path
from bench.train.buckets import Bucket
from bench.train.models import Models
from plugins_manifest.files import atomic_write, sweep_temporary
from plugins_manifest.outputs import one_line
from xadapter.vae import encode_image, pixels_per_latent

PHOTOS_PER_SHARD = 128
CAPTIONS_AT_ONCE = 32
_KEYS, _KEY_BYTES, _BROKEN = "keys", 16, ".broken"
_RESERVE_BYTES = 1 << 30  # of a disk, for checkpoints and what else is written
_TEXT_PARTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
Encoded = dict[str, Tensor]


# --- encode


class Encoder:
    """The VAEs and text encoders of both models.

    Pictures are encoded one by one, so that the result does not depend on their neighbors; captions
    too, but for GPUs, where the text encoders are moved there for many at once.
    """

    def __init__(self, models: Models, *, has_upgraded_text: bool) -> None:
        self._models, self._has_upgraded_text = models, has_upgraded_text
        self._n_captions = 1 if models.base_unet.device.type == "cpu" else CAPTIONS_AT_ONCE
        self._null = self._texts([""])[0]
        self.has_time_ids = models.upgraded_text([""]).time_ids is not None

    def encode(self, pictures: Sequence[tuple[Image.Image, str]]) -> list[Encoded]:
        """Return the float16 tensors of pictures, cut to their buckets, with their captions.

        `base` and `upgraded` are scaled latents [c, h, w] (means of the posterior), `text` [l, d]
        the base model's; with the upgraded model's text also `hidden` and `pooled`.
        """
        family, rows = self._models.family, []
        for first in range(0, len(pictures), self._n_captions):
            part = pictures[first : first + self._n_captions]
            for (cut, _), texts in zip(part, self._texts([text for _, text in part]), strict=True):
                half = cut.resize((cut.width // 2, cut.height // 2), Image.Resampling.LANCZOS)
                found = {
                    "base": _latents(family.base.vae, half),
                    "upgraded": _latents(family.upgraded.vae, cut),
                }
                rows.append({name: x.half() for name, x in (found | texts).items()})
        return rows

    def n_bytes(self, bucket: Bucket) -> int:
        """Return the bytes of an encoded picture of a bucket."""
        n = sum(x.numel() for x in self._null.values())
        for pipe, part in ((self._models.family.base, 2), (self._models.family.upgraded, 1)):
            area = bucket[0] * bucket[1] // (part * pixels_per_latent(pipe.vae)) ** 2
            n += pipe.vae.config["latent_channels"] * area
        return 2 * n + _KEY_BYTES

    def _texts(self, captions: Sequence[str]) -> list[Encoded]:
        found = {"text": self._models.base_text(captions)}
        if self._has_upgraded_text:
            text = self._models.upgraded_text(captions)
            found["hidden"] = text.hidden
            if text.pooled is not None:
                found["pooled"] = text.pooled
        return [{name: x[row] for name, x in found.items()} for row in range(len(captions))]

    def weights_sha256(self) -> str:
        """Return the hash of everything that an encoded picture depends on, but the picture."""
        digest = hashlib.sha256(f"{self._has_upgraded_text}".encode())
        for pipe in (self._models.family.base, self._models.family.upgraded):
            for name in ("vae", *_TEXT_PARTS):
                model = getattr(pipe, name, None)
                if model is not None:
                    _hash_model(digest, model)
            for name in ("tokenizer", "tokenizer_2"):
                tokenizer = getattr(pipe, name, None)
                if tokenizer is not None:
                    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
        return digest.hexdigest()


def cut_to(pixels: np.ndarray, bucket: Bucket) -> Image.Image:
    """Scale a picture so that it covers the bucket, and cut its center out."""
    height, width = pixels.shape[:2]
    scale = max(bucket[0] / width, bucket[1] / height)
    cut_width, cut_height = bucket[0] / scale, bucket[1] / scale
    left, top = (width - cut_width) / 2, (height - cut_height) / 2
    box = (left, top, min(width, left + cut_width), min(height, top + cut_height))
    return Image.fromarray(pixels).resize(bucket, Image.Resampling.LANCZOS, box=box)


def _latents(vae: Any, picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    factor = pixels_per_latent(vae)
    shape = (1, vae.config["latent_channels"], picture.height // factor, picture.width // factor)
    mean = torch.zeros(shape)  # the posterior's mean: no noise
    return encode_image(vae, pixels.float() / 127.5 - 1, mean)[0].cpu()


def _hash_model(digest: Any, model: Any) -> None:
    facts = dict(model.config if isinstance(model.config, Mapping) else model.config.to_dict())
    facts = {k: v for k, v in facts.items() if not k.startswith("_")}
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        plain = weight.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().data)


# --- keep


class LatentCache:
    """The encoded pictures of a folder by their keys. One process writes a shard, all read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[bytes, tuple[Path, int]] = {}
        self._read: set[Path] = set()
        self._marks: set[str] = set()
        self.broken: dict[bytes, str] = {}  # key -> why a picture could not be decoded
        self.refresh()

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def refresh(self) -> None:
        """Find the shards that were written since."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._read:
                self._read.add(path)
                self._index(path)
        for path in self.folder.glob(f"*{_BROKEN}"):
            if path.name not in self._marks:
                self._marks.add(path.name)
                self.broken[bytes.fromhex(path.stem)] = path.read_text(encoding="utf-8")

    def _index(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                keys = file.get_tensor(_KEYS).numpy()
        except (SafetensorError, OSError):
            return  # cut or foreign: its pictures are encoded again
        for row, key in enumerate(keys):
            self._rows.setdefault(key.tobytes(), (path, row))

    def read(self, key: bytes) -> Encoded:
        """Return the tensors of a picture, float16."""
        path, row = self._rows[key]
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name != _KEYS]  # noqa: SIM118
                return {name: file.get_slice(name)[row] for name in names}
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{shown_path(path)} can no longer be read: delete it and run the same command "
                "again, its pictures are encoded again"
            ) from error

    def write(self, rows: Mapping[bytes, Encoded]) -> None:
        """Write a shard of pictures of one size; `UserError` on a full disk."""
        keys = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), _KEY_BYTES)
        tensors = {_KEYS: torch.from_numpy(keys.copy())}
        for name in next(iter(rows.values())):
            tensors[name] = torch.stack([row[name] for row in rows.values()])
        path = self.folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:16]}.safetensors"
        try:
            atomic_write(path, save(tensors))
        except OSError as error:
            raise disk_error(error, path) from error
        self.refresh()

    def mark_broken(self, key: bytes, why: str) -> None:
        """Keep that a picture cannot be decoded, for all processes and later trainings."""
        path = self.folder / f"{key.hex()}{_BROKEN}"
        try:
            atomic_write(path, one_line(why))
        except OSError as error:
            raise disk_error(error, path) from error
        self.broken[key] = why

    def sweep(self) -> None:
        """Remove what killed processes left."""
        if self.folder.is_dir():
            sweep_temporary(self.folder)

    def need_room(self, n_bytes: int) -> None:
        """Raise `UserError` unless the disk has room for so many bytes more."""
        free = free_bytes(self.folder)
        if n_bytes and n_bytes + _RESERVE_BYTES > free:
            raise UserError(
                f"encoded pictures take {n_bytes / 2**30:.1f} GiB, and {shown_path(self.folder)} "
                f"has {free / 2**30:.1f} GiB free: free some space, set data.cache to a folder of "
                "another disk, or to false"
            )


def key_of(sha256: str, caption: str, bucket: Bucket) -> bytes:
    """Return the key of a picture."""
    text = f"{sha256} {bucket[0]}x{bucket[1]} {caption}"
    return hashlib.sha256(text.encode()).digest()[:_KEY_BYTES]


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds a folder, or will hold it."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
