"""Convert a pickled torch file to safetensors; run by path in a separate process, never imported.

Reads the pickle from stdin, writes safetensors to stdout and a line of explanation to stderr.
The process is started in isolated mode with an empty home. Before the file is opened it drops
what it does not need: new file descriptors (so no file and no socket can be opened), new
processes, memory, processor time; and torch unpickles with `weights_only`, which accepts only
tensors and plain containers. The caller trusts neither its output nor its messages.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import re
import resource
import sys
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

MIB = 2**20
CPU_SECONDS = 120
MAX_TENSORS, MAX_ENTRIES, MAX_DEPTH = 20_000, 50_000, 8
MAX_PICKLE_BYTES = 32 * MIB
MAX_TEXTS, MAX_TEXT = 100, 1_000
MIN_TORCH = (2, 10)  # weights_only before was broken twice: CVE-2025-32434, CVE-2026-24747

_DENIED = ("os.", "shutil.", "socket.", "subprocess.", "ctypes.", "pty.", "webbrowser.", "urllib.")
_NEW_USER, _NEW_NET, _NO_NEW_PRIVILEGES = 0x10000000, 0x40000000, 38


class Refused(Exception):  # noqa: N818 (the message is what the user reads)
    """A file that is not converted, and why."""


def main() -> None:
    """Convert stdin to stdout; exit with code 3 and a reason on stderr if it is refused."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    try:
        convert(source, target)
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3)
    except MemoryError:
        sys.stderr.write("it needs more memory than its size explains\n")
        sys.exit(3)


def convert(source: BinaryIO, target: BinaryIO) -> None:
    """Check the file, restrict the process, unpickle, write."""
    n_bytes = source.seek(0, 2)
    source.seek(0)
    if source.read(4) == b"PK\x03\x04":
        check_zip(source, n_bytes)
    source.seek(0)
    leave_network()
    import torch

    numbers = str(torch.__version__).split("+")[0].split(".")[:2]
    if tuple(int(number) for number in numbers) < MIN_TORCH:
        raise Refused(f"torch {torch.__version__} unpickles unsafely: install torch 2.10 or newer")
    torch.set_num_threads(1)
    warm_up(torch)
    restrict(n_bytes)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        if "allocate memory" in str(error):
            raise MemoryError from error
        raise Refused(f"it holds more than tensors: {cause(error)}") from error
    tensors: dict[str, Any] = {}
    texts: dict[str, str] = {}
    collect(torch, unwrapped(content), tensors, texts)
    write(torch, tensors, texts, target, limit=4 * n_bytes + MIB)


def check_zip(source: BinaryIO, n_bytes: int) -> None:
    """Refuse archives that torch does not write: its entries are uncompressed, with plain names."""
    try:
        entries = zipfile.ZipFile(source).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Refused(f"the zip archive is broken: {first_line(error)}") from error
    if len(entries) > MAX_ENTRIES:
        raise Refused(f"more than {MAX_ENTRIES} entries in the archive")
    pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise Refused("the archive must have one small data.pkl")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] in ("", "~") or ":" in parts[0]:
            raise Refused("an entry's name leads out of the archive")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise Refused("an entry is compressed or encrypted")
        if entry.file_size != entry.compress_size:
            raise Refused("an entry's sizes contradict each other")
    if sum(entry.file_size for entry in entries) > n_bytes:
        raise Refused("the entries are larger than the file")


def leave_network() -> None:
    """Enter an empty network namespace if the system allows it."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.unshare(_NEW_USER | _NEW_NET)


def warm_up(torch: Any) -> None:
    """Load a harmless archive and a harmless old file, so that all imports happen now."""
    allowed = torch.nn.ParameterDict  # the original textual inversions are made of it
    torch.serialization.add_safe_globals([allowed])
    plain = {"a": torch.nn.Parameter(torch.zeros(2))}
    for sample, is_zip in ((plain, False), (plain | {"b": torch.nn.ParameterDict(plain)}, True)):
        file = io.BytesIO()
        torch.save(sample, file, _use_new_zipfile_serialization=is_zip)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    raw_bytes(torch, torch.zeros(2, dtype=torch.bfloat16))


def restrict(n_bytes: int) -> None:
    """Limit memory, time, files, processes; then deny what Python itself could still do."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
        cap(resource.RLIMIT_AS, used + 3 * n_bytes + 512 * MIB)
    cap(resource.RLIMIT_CPU, CPU_SECONDS)
    cap(resource.RLIMIT_FSIZE, 4 * n_bytes + 16 * MIB)
    cap(resource.RLIMIT_CORE, 0)
    if hasattr(resource, "RLIMIT_NPROC"):
        cap(resource.RLIMIT_NPROC, 0)
    cap(resource.RLIMIT_NOFILE, 0)
    sys.addaudithook(deny)


def cap(what: int, value: int) -> None:
    """Lower a limit permanently."""
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def deny(event: str, _: tuple[Any, ...]) -> None:
    """Deny files, processes, sockets and foreign functions, reported as audit events."""
    if event == "open" or event.startswith(_DENIED):
        raise Refused(f"it tried {event}")


def unwrapped(content: Any) -> Any:
    """Return the tensors of a checkpoint, which may be one level down."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        return content["state_dict"]
    return content


def collect(torch: Any, content: Any, tensors: dict[str, Any], texts: dict[str, str]) -> None:
    """Flatten nested containers into dotted names; short texts and numbers are metadata."""
    for name, value in walk(torch, content, "", 0):
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized or value.is_complex():
                raise Refused(f"{name[:80]!a} is not a plain tensor")
            tensors[name] = value.detach()
        elif isinstance(value, (str, int, float)) and len(texts) < MAX_TEXTS:
            texts[name[:MAX_TEXT]] = str(value)[:MAX_TEXT]
        if len(tensors) > MAX_TENSORS:
            raise Refused(f"more than {MAX_TENSORS} tensors")
    if not tensors:
        raise Refused("there are no tensors in it")


def walk(torch: Any, content: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield all leaves with their names."""
    if depth > MAX_DEPTH:
        raise Refused("containers are nested too deeply")
    if isinstance(content, torch.nn.ParameterDict):
        content = {key: content[key] for key in content}
    if isinstance(content, dict):
        items = list(content.items())
    elif isinstance(content, (list, tuple)):
        items = list(enumerate(content))
    else:
        yield name or "tensor", content
        return
    for key, value in items[: MAX_ENTRIES + 1]:
        inner = str(key)[:MAX_TEXT]
        yield from walk(torch, value, f"{name}.{inner}" if name else inner, depth + 1)


def write(
    torch: Any, tensors: dict[str, Any], texts: dict[str, str], target: BinaryIO, *, limit: int
) -> None:
    """Write safetensors: length of the header, header, one tensor after the other."""
    dtypes = {
        torch.float64: "F64",
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
        torch.int64: "I64",
        torch.int32: "I32",
        torch.int16: "I16",
        torch.int8: "I8",
        torch.uint8: "U8",
        torch.bool: "BOOL",
    }
    header: dict[str, Any] = {"__metadata__": {"converted_from": "pickle", **texts}}
    at = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in dtypes:
            raise Refused(f"{name[:80]!a} is of dtype {tensor.dtype}")
        end = at + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": dtypes[tensor.dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    if at > limit:
        raise Refused(f"its tensors would fill {at} bytes, many times the file")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    target.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        target.write(raw_bytes(torch, tensor))
    target.flush()


def raw_bytes(torch: Any, tensor: Any) -> memoryview:
    """Return a tensor's bytes in row-major order."""
    flat = tensor.contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")


def cause(error: BaseException) -> str:
    """Return the essence of torch's long message: the name that the pickle would call."""
    called = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
    return f"it calls {called[1]}" if called else first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error, as printable text."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return ascii(line[:160])[1:-1]


if __name__ == "__main__":
    main()
