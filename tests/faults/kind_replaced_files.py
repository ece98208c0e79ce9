"""Files that are replaced or changed after they were hashed: none is used under the old hash."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bench.plan.conditions import ConditionSet
from metrics.weights.files import RemoteFile, Weights
from plugins_manifest.cases import Case
from plugins_manifest.content import ChangedFileError, hash_path, load_as_planned
from plugins_manifest.formats.side_files import side_files
from runners.base import PluginFile
from runners.families import family_fingerprint, load_family
from runners.plugins import load_plugin
from tests.faults.base import Fault, Kind, refuses
from xadapter.tensor_file import read_tensor_file

Way = Callable[[Path, bytes], object]


def _in_place(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)
        file.truncate(len(content))


def _renamed(path: Path, content: bytes) -> None:
    new = path.with_name("new.tmp")
    new.write_bytes(content)
    new.replace(path)


def _renamed_with_old_time(path: Path, content: bytes) -> None:
    stat = path.stat()
    _renamed(path, content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _linked(path: Path, content: bytes) -> None:
    other = path.with_name("other.tmp")
    other.write_bytes(content)
    path.unlink()
    path.symlink_to(other)


WAYS: dict[str, Way] = {
    "overwritten in place": _in_place,
    "replaced by rename": _renamed,
    "replaced, with the old time": _renamed_with_old_time,
    "a link to another file": _linked,
    "cut to half": lambda path, _: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path, _: os.truncate(path, 0),
    "deleted": lambda path, _: path.unlink(),
}
# kind of plugin -> the files of it; the first is its own
PLUGINS: dict[str, tuple[str, tuple[str, ...]]] = {
    "lora": ("lora.safetensors", ("lora.safetensors",)),
    "lycoris": ("one.safetensors", ("one.safetensors",)),
    "textual_inversion": ("word.safetensors", ("word.safetensors",)),
    "controlnet": ("net.safetensors", ("net.safetensors", "config.json")),
    "controlnet of a folder": ("net", ("net/model.safetensors", "net/config.json")),
    "t2i_adapter": ("t2i.safetensors", ("t2i.safetensors", "t2i.json")),
    "ip_adapter": ("ip.safetensors", ("ip.safetensors", "image_encoder/config.json")),
    "ip_adapter of a folder": ("ip", ("ip/ip.safetensors", "ip/image_encoder/a.safetensors")),
}
_CLASSES = {"controlnet": "ControlNetModel", "t2i_adapter": "T2IAdapter"}


def _content(name: str, kind: str, rng: Random) -> bytes:
    if name.endswith(".json"):
        return f'{{"_class_name": "{_CLASSES.get(kind, "x")}", "n": {rng.random()}}}'.encode()
    return rng.randbytes(rng.randint(1, 3000))


def _provoke_plugin(folder: Path, *, label: str, changed: str, way: str, seed: int) -> None:
    rng, kind = Random(seed), label.partition(" ")[0]
    name, files = PLUGINS[label]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(_content(file, kind, rng))
    path = folder / name
    beside = tuple((found, hash_path(found)) for found in side_files(path, kind))
    plugin = PluginFile(
        "mine", kind, path, "0" * 64, side_files=beside, content_sha256=hash_path(path)
    )
    WAYS[way](folder / changed, _content(changed, kind, rng))
    family: Any = None  # nothing is loaded
    refuses(lambda: load_plugin(plugin, family), "'mine'", "planned")


def _provoke_mapper(folder: Path, *, is_folder: bool, way: str, seed: int) -> None:
    rng = Random(seed)
    path = folder / "mapper" if is_folder else folder / "mapper.safetensors"
    file = path / "diffusion_pytorch_model.safetensors" if is_folder else path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(rng.randbytes(500))
    planned = family_fingerprint("pocket", adapter=path)
    WAYS[way](file, rng.randbytes(500))
    refuses(lambda: load_family("pocket", adapter=path, planned=planned), "planned")


def _provoke_while_loading(folder: Path, *, way: str, seed: int) -> None:
    """Change the file between check and reading, and undo it before the next look or not."""
    rng, path = Random(seed), folder / "a.bin"
    right, is_undone = rng.randbytes(200), rng.random() < 0.5
    path.write_bytes(right)
    sha256 = hash_path(path)

    def load() -> bytes:
        WAYS[way](path, rng.randbytes(200))
        content = path.read_bytes() if path.is_file() else b""
        if is_undone:
            _renamed(path, right)
        return content

    try:
        loaded = load_as_planned(load, path, sha256, what="the file")
    except ChangedFileError:
        return
    assert loaded == right, "another content was loaded under the planned hash"


def _provoke_in_use(folder: Path, *, way: str, seed: int) -> None:
    """Change the file after the loading: the tensors stay, and the process goes on."""
    rng, path = Random(seed), folder / "a.safetensors"
    tensors = {f"t{i}": torch.full((rng.randint(1, 5000),), float(i)) for i in range(3)}
    save_file(tensors, path)
    loaded = read_tensor_file(path)
    WAYS[way](path, rng.randbytes(path.stat().st_size))
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())
    save_file(tensors, path)
    mapped = load_file(path)
    assert all(torch.equal(loaded[key], mapped[key]) for key in tensors)


def _picture(path: Path, rng: Random) -> None:
    pixels = np.frombuffer(rng.randbytes(64 * 64 * 3), np.uint8).reshape(64, 64, 3)
    Image.fromarray(pixels).save(path)


def _provoke_picture(folder: Path, *, what: str, way: str, seed: int) -> None:
    rng, path, other = Random(seed), folder / "picture.png", folder / "other.png"
    _picture(path, rng)
    _picture(other, rng)
    (folder / "run").mkdir()
    conditions = ConditionSet("pocket", (64, 64), folder / "run" if what == "stored" else None)
    if what == "reference":
        case = Case("one", "a dog", reference_path=str(path))
        planned = conditions.reference_sha256(case, None)
        use: Callable[[], object] = partial(conditions.reference, case, None)
    else:
        case = Case("one", "a dog", condition_paths=(("depth", str(path)),))
        planned = conditions.sha256(case, "depth")
        use = partial(conditions.image, case, "depth")
    stored = folder / "run" / "conditions" / "depth" / "one.png"
    WAYS[way](stored if what == "stored" else path, other.read_bytes())
    if what == "stored" and way == "deleted":
        use()  # made again from the same picture
        return
    refuses(use, "planned" if "cut" not in way and way not in ("emptied", "deleted") else "")
    assert planned


def _provoke_metric(folder: Path, *, way: str, seed: int) -> None:
    rng = Random(seed)
    before = os.environ.get("XBENCH_METRIC_WEIGHTS")
    os.environ["XBENCH_METRIC_WEIGHTS"] = str(folder)
    try:
        weights = Weights("tiny", "Tiny", (RemoteFile("a.bin", "hf://o/r/a.bin"),), "MIT")
        path = weights.folder / "a.bin"
        path.parent.mkdir()
        path.write_bytes(rng.randbytes(300))
        first = weights.sha256()
        WAYS[way](path, rng.randbytes(300))
        assert weights.sha256() != first, "other weights have the old hash"
    finally:
        if before is None:
            del os.environ["XBENCH_METRIC_WEIGHTS"]
        else:
            os.environ["XBENCH_METRIC_WEIGHTS"] = before


def _named(rng: Random) -> Iterator[Fault]:
    for way in WAYS:
        for label, (_, files) in PLUGINS.items():
            for changed in files:
                draw = partial(_provoke_plugin, label=label, changed=changed, way=way)
                yield Fault(f"{label}, {changed}: {way}", partial(draw, seed=rng.getrandbits(32)))
        for is_folder, name in ((False, "mapper"), (True, "mapper of a folder")):
            draw = partial(_provoke_mapper, is_folder=is_folder, way=way)
            yield Fault(f"{name}: {way}", partial(draw, seed=rng.getrandbits(32)))
        for what in ("stored", "finished", "reference"):
            draw = partial(_provoke_picture, what=what, way=way)
            yield Fault(f"{what} picture: {way}", partial(draw, seed=rng.getrandbits(32)))
        for name, provoke in (
            ("while it is loaded", _provoke_while_loading),
            ("while it is in use", _provoke_in_use),
        ):
            yield Fault(f"{name}: {way}", partial(provoke, way=way, seed=rng.getrandbits(32)))
        if way != "deleted":
            draw = partial(_provoke_metric, way=way, seed=rng.getrandbits(32))
            yield Fault(f"weights of a metric: {way}", draw)


def _faults(rng: Random) -> Iterator[Fault]:
    yield from _named(rng)
    everything = list(product(PLUGINS, WAYS))
    while True:
        label, way = rng.choice(everything)
        changed, seed = rng.choice(PLUGINS[label][1]), rng.getrandbits(32)
        draw = partial(_provoke_plugin, label=label, changed=changed, way=way, seed=seed)
        yield Fault(f"{label}, {changed}: {way} ({seed})", draw)


KIND = Kind(
    "replaced files", "A numbers", "what is used is what was hashed", _faults, count=160, sample=20
)
