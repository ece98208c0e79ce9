"""Python processes that start with torch and diffusers imported: forks of one server.

Each is a process of its own that can be killed; nothing of the project is imported before its
code runs. Where a claim is about what Python imports, start a new interpreter instead.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_LIBRARIES = (
    *("pandas", "pyarrow.parquet", "scipy.stats", "cv2", "matplotlib.pyplot", "open_clip"),
    *("torch._dynamo", "transformers.models.clip.modeling_clip", "peft"),
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
    *("diffusers.models.controlnets.controlnet", "diffusers.models.adapter"),
)
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([*_LIBRARIES])
# a fork imports the file of what is `__main__` then, and Streamlit puts each page there
_TESTS = sys.modules["__main__"]


class WarmProcess:
    """A running process, with the methods of `subprocess.Popen` that tests use.

    It may start others of the same server. The code finds the number of `connection` as its last
    argument.
    """

    def __init__(
        self,
        code: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        output: Path | None = None,
        errors: Path | None = None,
        connection: Connection | None = None,
    ) -> None:
        files = [str(path or os.devnull) for path in (output, errors)]
        whole = dict(os.environ if env is None else env)
        given = (code, arguments, whole, files, connection)
        sys.modules["__main__"] = _TESTS
        self._process = _SERVER.Process(target=_execute, args=given)
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired("a warm process", timeout or 0.0)
        return self._process.exitcode


def run_warm(
    code: str, *arguments: str, env: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """Run code to its end; return its exit code and what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        returncode = WarmProcess(code, *arguments, env=env, output=output, errors=errors).wait()
        texts = [path.read_text(encoding="utf-8") for path in (output, errors)]
    return CompletedProcess(["python", "-c", code, *arguments], returncode, *texts)


def _execute(
    code: str,
    arguments: tuple[str, ...],
    env: dict[str, str],
    files: list[str],
    connection: Connection | None,
) -> None:
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    os.environ.clear()
    os.environ.update(env)
    os.fsync = lambda handle: None  # as in the tests' own process
    # else a process that starts others starts a second server (python/cpython, ensure_running)
    forkserver._forkserver.ensure_running = resource_tracker.ensure_running
    import torch

    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", "1")))
    sys.argv = ["-c", *arguments, *([] if connection is None else [str(connection.fileno())])]
    sys.path[:0] = ["", *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
