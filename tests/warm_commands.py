"""Commands of pages as forks of the warm server, also those that they start themselves.

`xbench`, `pytest` and `python` of a folder send their words to the process of the tests, which
forks a process for them: what they import of torch and its like is there already.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from tests.warm import run_warm

Call = tuple[list[str], str, dict[str, str]]  # words, folder, variables
_WORDS = {"xbench": "-m xbench", "pytest": "-m pytest", "python": ""}
_SEND = """
import os, sys
from multiprocessing.connection import Client
with Client(sys.argv[1]) as tests:
    tests.send((sys.argv[2:], os.getcwd(), dict(os.environ)))
    code, output, errors = tests.recv()
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(code)
"""
_BE = """
import json, os, runpy, site, sys
folder, packages, python, words = map(json.loads, sys.argv[1:])
os.chdir(folder)
if packages:
    sys.path.remove("")
    site.addsitedir(packages)
sys.executable, how, sys.argv = python, words[0], words
if how in ("-m", "-c"):
    sys.argv = words[1:]
if how == "-m":
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
elif how == "-c":
    exec(words[1], {"__name__": "__main__"})
else:
    runpy.run_path(how, run_name="__main__")
"""


@contextmanager
def warm_commands(packages: Path | None = None) -> Iterator[Path]:
    """Yield a folder for PATH with the commands; `packages` are those of an environment.

    Its `python` knows `-m MODULE`, `-c CODE` and a file.
    """
    with Listener(family="AF_UNIX") as listener, TemporaryDirectory() as folder:
        sender = Path(folder, "send.py")
        sender.write_text(_SEND)
        call = shlex.join([sys.executable, "-IS", str(sender), str(listener.address)])
        commands = Path(folder, "bin")
        commands.mkdir()
        for name, words in _WORDS.items():
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec {call} {words} "$@"\n')
            script.chmod(0o755)
        facts = [str(packages) if packages else None, str(commands / "python")]
        thread = Thread(target=_listen, args=(listener, facts), daemon=True)
        thread.start()
        try:
            yield commands
        finally:
            with Client(listener.address) as end:
                end.send(None)
            thread.join()


def _listen(listener: Listener, facts: list[str | None]) -> None:
    while True:
        caller = listener.accept()
        if (call := caller.recv()) is None:
            caller.close()
            return
        # in a thread: a command may start others
        Thread(target=_answer, args=(caller, call, facts), daemon=True).start()


def _answer(caller: Connection, call: Call, facts: list[str | None]) -> None:
    words, folder, variables = call
    done = run_warm(_BE, *map(json.dumps, (folder, *facts, words)), env=variables)
    with caller:
        caller.send((done.returncode, done.stdout, done.stderr))
