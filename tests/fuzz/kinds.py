"""What is fuzzed: good files of each kind, and the readers that must survive their mutations."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import yaml

from plugins_manifest.errors import UserError
from tests.fuzz.mutation import mutated

ROOT = Path(__file__).resolve().parents[2]
_OLD_RUN = ROOT / "tests" / "data" / "old-run"
Reader = Callable[[bytes, Path], object]  # content of a file, an empty folder


@dataclass(frozen=True)
class Target:
    """A reader and good files for it; `reader` raises `UserError` alone."""

    name: str
    seeds: tuple[bytes, ...]
    reader: Reader


@dataclass(frozen=True)
class FuzzKind:
    """One kind of files; `targets` is called once, in the process that fuzzes."""

    name: str
    targets: Callable[[], Sequence[Target]]
    tokens: tuple[bytes, ...]
    is_text: bool = False


def check(kind: FuzzKind, seed: int, folder: Path) -> str:
    """Read the input of a seed; return what became of it. Raises whatever is not a `UserError`."""
    rng = Random(seed)
    targets = _targets(kind)
    target = rng.choice(targets)
    others = [data for other in targets for data in other.seeds]
    data = mutated(rng, target.seeds, tokens=kind.tokens, others=others, is_text=kind.is_text)
    try:
        target.reader(data, folder)
    except UserError as error:
        text = str(error)
        assert text.strip() and len(text) < 20_000, f"an error of {len(text)} characters"
        return f"{target.name}: refused"
    return f"{target.name}: read"


def warm_up(kind: FuzzKind, folder: Path) -> None:
    """Read one good file with each reader, so that no input pays for the imports."""
    for target in _targets(kind):
        target.reader(target.seeds[0], folder)


@cache
def _targets(kind: FuzzKind) -> Sequence[Target]:
    return kind.targets()


# --- images


def _images() -> Sequence[Target]:
    from PIL import Image

    picture = Image.effect_noise((24, 16), 80).convert("RGB")
    made: list[bytes] = []
    for mode, kind, options in (
        *(("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("P", "PNG", {}), ("L", "PNG", {})),
        *(("1", "PNG", {}), ("I;16", "PNG", {}), ("RGB", "JPEG", {}), ("CMYK", "JPEG", {})),
        *(("L", "JPEG", {"progressive": True}), ("RGB", "WEBP", {}), ("RGBA", "WEBP", {})),
        *(("RGB", "WEBP", {"lossless": True}), ("RGB", "BMP", {}), ("P", "BMP", {})),
        *(("RGB", "TIFF", {"compression": "tiff_lzw"}), ("F", "TIFF", {}), ("RGB", "GIF", {})),
        ("RGB", "TIFF", {"compression": "tiff_deflate"}),
    ):
        buffer = io.BytesIO()
        grey = picture.convert("L")
        changed = grey.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
        changed.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return [Target("image", tuple(made), _read_image)]


def _read_image(data: bytes, folder: Path) -> object:
    from plugins_manifest.images import decode_image

    pixels = decode_image(data, name="picture")
    assert pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3
    return pixels


# --- documents


def _yaml_files() -> Sequence[Target]:
    from bench.gate.policy import SHIPPED_POLICY
    from plugins_manifest.schema.load import SHIPPED

    manifests = tuple(path.read_bytes() for path in sorted(SHIPPED.glob("*.yaml")))
    cases = [{"prompt": "a cat", "id": "cat"}, {"prompt": "a dog", "negative_prompt": "blur"}]
    return [
        Target("manifest", (*manifests, _ANCHORS), _read_manifest),
        Target("policy", (SHIPPED_POLICY.read_bytes(),), _read_policy),
        Target("lock", (_LOCK,), _read_lock),
        Target("cases", (yaml.safe_dump(cases).encode(),), _cases_reader(".yaml")),
    ]


def _read_manifest(data: bytes, folder: Path) -> object:
    from plugins_manifest.schema.load import parse_manifest

    manifest = parse_manifest(data, folder / "m.yaml")
    written = yaml.safe_dump(manifest.as_data(), allow_unicode=True)
    again = parse_manifest(written, folder / "m.yaml")
    assert again.fingerprint() == manifest.fingerprint(), "a written manifest reads differently"
    return manifest


def _read_policy(data: bytes, folder: Path) -> object:
    from bench.gate.policy import load_policy

    return load_policy(_written(folder / "policy.yaml", data))


def _read_lock(data: bytes, folder: Path) -> object:
    from plugins_manifest.lock import read_lock

    return read_lock(_written(folder / "m.lock.yaml", data))


def _cases_reader(ending: str) -> Reader:
    def read(data: bytes, folder: Path) -> object:
        from plugins_manifest.cases import file_cases
        from plugins_manifest.schema.manifest import FileCases

        _written(folder / f"cases{ending}", data)
        return file_cases(FileCases(source="file", path=f"cases{ending}"), folder=folder)

    return read


def _json_files() -> Sequence[Target]:
    captions = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "width": 640, "height": 426}],
        "annotations": [{"id": 1, "image_id": 139, "caption": "A room with a table."}],
    }
    cases = [{"prompt": "a cat", "id": "cat"}, "a dog"]
    peft = {"unet.lora_alpha": 4, "unet.r": 8, "unet.alpha_pattern": {"a.b": 2}}
    config = {"_class_name": "ControlNetModel", "block_out_channels": [32, 64], "x": None}
    run = (_OLD_RUN / "run.json").read_bytes()
    return [
        Target("run", (run,), _read_run),
        Target("run cases", ((_OLD_RUN / "cases.json").read_bytes(),), _read_run_cases),
        Target("captions", (json.dumps(captions, indent=1).encode(),), _read_captions),
        Target("cases", (json.dumps(cases).encode(),), _cases_reader(".json")),
        Target("peft settings", (json.dumps(peft).encode(),), _read_peft),
        Target("config", (json.dumps(config).encode(),), _read_config),
        Target("stack cell", (b'["a", "b"]',), _read_cell),
    ]


def _read_run(data: bytes, folder: Path) -> object:
    from bench.store import RunStore

    _written(folder / "run.json", data)
    return RunStore(folder).run_facts()


def _read_run_cases(data: bytes, folder: Path) -> object:
    from bench.store import RunStore

    _written(folder / "cases.json", data)
    return RunStore(folder).cases()


def _read_captions(data: bytes, folder: Path) -> object:
    from plugins_manifest.cases.coco import parse_captions

    return parse_captions(data, name="captions.json")


def _read_peft(data: bytes, folder: Path) -> object:
    from plugins_manifest.formats.parsed import Header
    from plugins_manifest.formats.peft_settings import read_settings

    found = read_settings(Header({}, {}, 0, 0, settings=data.decode("utf-8", "replace")))
    if found.problems:
        raise UserError(found.problems[0].message)
    settings = found.of("unet.a.b")
    try:
        return settings and settings.scale(["a.b"], None)
    except ValueError as error:  # as its caller does
        raise UserError(str(error)) from error


def _read_config(data: bytes, folder: Path) -> object:
    from plugins_manifest.documents import read_json

    return read_json(_written(folder / "config.json", data))


def _read_cell(data: bytes, folder: Path) -> object:
    from bench.store.documents import left_out_of, members_of, paths_of

    text = data.decode("utf-8", "replace")
    for read in (members_of, paths_of, left_out_of):
        try:
            read(text)
        except UserError:
            continue
    return members_of(text)


def _csv_files() -> Sequence[Target]:
    text = b'id,prompt,negative_prompt\ncat,"a cat, sitting",\ndog,"a ""dog""",blur\n'
    return [Target("cases", (text, text.replace(b"\n", b"\r\n")), _cases_reader(".csv"))]


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --- Parquet


def _parquet_files() -> Sequence[Target]:
    scores = sorted((_OLD_RUN / "scores").glob("*.parquet"))[:2]
    return [
        Target("trials", ((_OLD_RUN / "trials.parquet").read_bytes(),), _table_reader("trials")),
        Target("scores", tuple(path.read_bytes() for path in scores), _table_reader("scores")),
        Target("results", (_results(),), _table_reader("results")),
    ]


def _results() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bench.store import TABLES

    columns = TABLES["results"].columns
    rows = [{"trial_id": f"{i:020x}", "status": "ok", "seconds": 0.5} for i in range(50)]
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=columns)
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def _table_reader(name: str) -> Reader:
    def read(data: bytes, folder: Path) -> object:
        from bench.store import TABLES, records
        from bench.store.files import read_table

        return records(read_table(_written(folder / "t.parquet", data), TABLES[name].columns))

    return read


# --- safetensors


def _safetensors_files() -> Sequence[Target]:
    from tests.plugins_manifest.zoo import fuzz

    return [
        Target("mutated", fuzz.small_files(), _inspect),
        Target("random", tuple(fuzz.random_file(Random(i)) for i in range(300)), _inspect),
    ]


def _inspect(data: bytes, folder: Path) -> object:
    from tests.plugins_manifest.zoo import fuzz

    return fuzz.check(data, folder / "plugin.safetensors")


_ANCHORS = b"""\
schema: 1
name: anchors
family: pocket
plugins:
  - {id: a, kind: lora, source: "pocket:lora-outline", prompts: &p [a cat, a dog], seeds: [1, 2]}
  - {id: b, kind: lora, source: "pocket:lora-hatched", prompts: *p, weight: 0.5}
stacks: [{id: s, plugins: [{id: a, scale: 0.5}, {id: b}]}]
cases: {source: pocket, seed: 1, n: 2}
methods: [{name: base}, {name: xadapter, t0: [0.7], plugin_scale: [1, 1.5]}]
settings: &s {base_size: [64, 64], steps: 3, guidance_scale: 3.5}
"""
_LOCK = b"""\
xbench_lock: 1
manifest: m
plugins:
- id: a
  source: urn:air:sd1:lora:civitai:1@2
  kind: lora
  sha256: "%s"
  origin: {site: civitai, model_id: 1, version_id: 2}
  files:
  - {name: a.safetensors, size_bytes: 1000, sha256: "%s"}
  weights: {format: kohya, kind: lora, base_model: sd1, dtypes: [F16], n_tensors: 3, rank: [4]}
  license: {name: null, allow_no_credit: true}
""" % (b"a" * 64, b"a" * 64)
_YAML_TOKENS = (
    *(b"&a ", b"*a", b"*p", b"<<: ", b"!!python/object:x ", b"!!str ", b"---\n", b"? ", b"|\n"),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b": ",
        b"- ",
        b"'",
        b'"',
        b"#",
        b"%YAML 1.2\n",
        b"\t",
        b"\xef\xbb\xbf",
    ),
    *(b".nan", b"1e309", b"true", b"null", b"2024-01-01", b"010", b"0x10", b"\xff\xfe", b"\x00"),
    *(
        b"schema: 1\n",
        b"source",
        b"n: ",
        b"\\ud800",
        b'"\\0"',
        b"-1",
        b"\xc3\xa9",
        b"\xf0\x9f\x98\x80",
    ),
)
_JSON_TOKENS = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"null", b"true", b"NaN", b"-Infinity"),
    *(b"1e999", b"\\u0000", b"\\ud800", b'"id":', b'"cases":[', b"[[[[[[[[", b'{"a":', b"-0"),
    *(b'"scene":[1,2]', b'"condition_paths":[[1]]', b"\xff", b"\x00", b"\xef\xbb\xbf", b"9" * 25),
)
_IMAGE_TOKENS = (
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"fcTL", b"eXIf"),
    *(b"\xff\xd8", b"\xff\xc0", b"\xff\xe1", b"\xff\xd9", b"Exif\0\0", b"RIFF", b"WEBP", b"VP8X"),
    *(
        b"ANIM",
        b"ANMF",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"GIF89a",
        b"%!PS",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
    ),
)
_PARQUET_TOKENS = (
    b"PAR1",
    b"PARE",
    b"\xff" * 8,
    b"\0" * 8,
    b"\x15\x00",
    b"\x19\x1c",
    b"ARROW:schema",
)
_TENSOR_TOKENS = (
    b'{"',
    b'":{"dtype":"F16","shape":[',
    b'"data_offsets":[0,2]',
    b"__metadata__",
    b"}",
)

FUZZ_KINDS = (
    FuzzKind("images", _images, _IMAGE_TOKENS),
    FuzzKind("yaml", _yaml_files, _YAML_TOKENS, is_text=True),
    FuzzKind("json", _json_files, _JSON_TOKENS, is_text=True),
    FuzzKind(
        "csv",
        _csv_files,
        (b",", b'"', b"\r", b"\n", b"\x00", b'""', b"prompt", b"\xff", b"a" * 200_000),
        is_text=True,
    ),
    FuzzKind("parquet", _parquet_files, _PARQUET_TOKENS),
    FuzzKind("safetensors", _safetensors_files, _TENSOR_TOKENS),
)
