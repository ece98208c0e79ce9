"""Commands of a virtual environment as forks of the warm server, also those that they start.

The environment's `xbench` and `pytest`, and a `python` for their own commands, send their words to
the process of the tests, which forks a process for them. Packages are those of the environment;
what they import of torch and its like is there already.
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

from tests.environments import Environment
from tests.warm import run_warm

Call = tuple[list[str], str, dict[str, str]]  # words, folder, variables
# a command's words, folder and variables go to the tests, and what it prints comes back
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
sys.path.remove("")
site.addsitedir(packages)
sys.executable, (how, what, *sys.argv[1:]) = python, words
if how == "-m":
    runpy.run_module(what, run_name="__main__", alter_sys=True)
else:
    exec(what, {"__name__": "__main__"})
"""


@contextmanager
def warm_commands(environment: Environment) -> Iterator[Path]:
    """Let commands of the environment be warm; yield the path of the warm `python`.

    It knows `-m MODULE` and `-c CODE`.
    """
    python = environment.folder / "bin" / "warm-python"
    with Listener(family="AF_UNIX") as listener, TemporaryDirectory() as folder:
        sender = Path(folder, "send.py")
        sender.write_text(_SEND)
        call = shlex.join([sys.executable, "-IS", str(sender), str(listener.address)])
        for name, words in (("warm-python", ""), ("xbench", "-m xbench"), ("pytest", "-m pytest")):
            script = environment.folder / "bin" / name
            script.write_text(f'#!/bin/sh\nexec {call} {words} "$@"\n')
            script.chmod(0o755)
        thread = Thread(target=_listen, args=(listener, environment, python), daemon=True)
        thread.start()
        try:
            yield python
        finally:
            with Client(listener.address) as end:
                end.send(None)
            thread.join()


def _listen(listener: Listener, environment: Environment, python: Path) -> None:
    while True:
        caller = listener.accept()
        if (call := caller.recv()) is None:
            caller.close()
            return
        # in a thread: a command may start others
        Thread(target=_answer, args=(caller, call, environment, python), daemon=True).start()


def _answer(caller: Connection, call: Call, environment: Environment, python: Path) -> None:
    words, folder, variables = call
    facts = (folder, str(environment.packages), str(python), words)
    done = run_warm(_BE, *map(json.dumps, facts), env=variables)
    with caller:
        caller.send((done.returncode, done.stdout, done.stderr))
