"""Runs jobs of a GitHub workflow in a folder of this machine: as much of a runner as ours need.

Expressions are lookups, `==`, `!=`, `&&`, `always()` and `success()`; scripts are run by bash;
actions on caches, artifacts and the checkout work on folders.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_CLAUSE = re.compile(r"(\S+) (==|!=) '(.*)'")
Context = dict[str, Any]


@dataclass
class Runner:
    """A repository with its caches and artifacts; `actions` are local composite actions by name.

    `bin` precedes PATH. `log` lists the steps that ran, with their exit codes.
    """

    folder: Path
    repository: Path | None = None
    actions: Mapping[str, Path] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    caches: dict[str, Path] = field(default_factory=dict)
    log: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bin = self.folder / "bin"
        self.bin.mkdir(parents=True, exist_ok=True)
        self.program("uv", _UV.format(python=sys.executable))
        self.program("pip", "exit 0")
        (self.bin / "python").symlink_to(sys.executable)

    def program(self, name: str, script: str) -> None:
        """Put a shell script before PATH; `$CALLS` is a file for what it records."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What programs recorded."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def summary(self) -> str:
        """What steps wrote into the summary of the last job."""
        return (self.folder / "summary").read_text()

    def job(self, job: Mapping[str, Any], event: Context) -> tuple[bool, Context]:
        """Run a job in an empty workspace; return whether it succeeded, and its steps."""
        self.workspace = self.folder / "workspace"
        shutil.rmtree(self.workspace, ignore_errors=True)
        self.workspace.mkdir()
        (self.folder / "summary").write_text("")
        self.log.clear()
        run_id = str(len(self.caches) + 1)
        github = {"workspace": str(self.workspace), "run_id": run_id, "run_attempt": "1"}
        runner = {"os": "Linux", "arch": "X64", "temp": str(self.folder)}
        context = {"github": {**github, **event}, "runner": runner, "inputs": {}}
        return self._steps(job["steps"], context)

    def composite(self, action: Path, inputs: Mapping[str, Any], context: Context):
        """Run a composite action; return whether it succeeded, and its outputs."""
        data = yaml.safe_load((action / "action.yml").read_text())
        unknown = set(inputs) - set(data["inputs"])
        assert not unknown, unknown
        for name, spec in data["inputs"].items():
            assert not spec.get("required") or name in inputs, name
        given = {name: spec.get("default", "") for name, spec in data["inputs"].items()}
        given |= {name: _text(value) for name, value in inputs.items()}
        path = {"GITHUB_ACTION_PATH": str(action)}
        passed, inner = self._steps(data["runs"]["steps"], {**context, "inputs": given}, extra=path)
        outputs = {k: _filled(spec["value"], inner) for k, spec in data["outputs"].items()}
        return passed, outputs

    def _steps(
        self, steps: Sequence[Mapping[str, Any]], context: Context, extra: Mapping[str, str] = {}
    ) -> tuple[bool, Context]:
        context, passed = {**context, "steps": {}}, True
        for step in steps:
            condition = str(step.get("if", "success()"))
            if not _holds(condition, context, passed=passed):
                continue
            ok, outputs = self._step(step, context, extra)
            passed = passed and ok
            if "id" in step:
                context["steps"][step["id"]] = {"outputs": outputs}
        return passed, context

    def _step(self, step: Mapping[str, Any], context: Context, extra: Mapping[str, str]):
        env = {k: _filled(_text(v), context) for k, v in step.get("env", {}).items()}
        if "run" in step:
            return self._script(step, {**extra, **env}, context)
        name = step["uses"].split("@")[0]
        given = {k: _filled(_text(v), context) for k, v in step.get("with", {}).items()}
        if name in self.actions:
            return self.composite(self.actions[name], given, context)
        ok = getattr(self, "_" + re.sub(r"[^a-z]+", "_", name))(given)
        self.log.append((name, 0 if ok else 1))
        return ok, {}

    def _script(self, step: Mapping[str, Any], env: Mapping[str, str], context: Context):
        output = self.folder / "output"
        output.write_text("")
        files = {"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": self.folder / "summary"}
        known = {**os.environ, **self.env, **env, **{k: str(v) for k, v in files.items()}}
        known["PATH"] = os.pathsep.join([str(self.bin), os.environ["PATH"]])
        known |= {"CALLS": str(self.folder / "calls"), "PYTHONPATH": str(ROOT)}
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
        script = _filled(step["run"], context)
        done = subprocess.run([*shell, script], cwd=self.workspace, env=known, check=False)
        self.log.append((step.get("name", "run"), done.returncode))
        lines = output.read_text().splitlines()
        return done.returncode == 0, dict(line.split("=", 1) for line in lines)

    # --- the actions of others

    def _actions_checkout(self, given: Mapping[str, str]) -> bool:
        assert self.repository is not None
        shutil.copytree(self.repository, self.workspace, dirs_exist_ok=True)
        return True

    def _actions_setup_python(self, given: Mapping[str, str]) -> bool:
        return bool(given["python-version"])

    def _actions_cache_restore(self, given: Mapping[str, str]) -> bool:
        prefixes = given.get("restore-keys", "").split()
        names = [
            given["key"],
            *(n for p in prefixes for n in [*self.caches][::-1] if n.startswith(p)),
        ]
        found = next((self.caches[name] for name in names if name in self.caches), None)
        if found is None:
            return given.get("fail-on-cache-miss") != "true"
        shutil.copytree(found, self.workspace / given["path"], dirs_exist_ok=True)
        return True

    def _actions_cache_save(self, given: Mapping[str, str]) -> bool:
        kept = self.folder / "caches" / str(len(self.caches))
        if given["key"] not in self.caches and (self.workspace / given["path"]).is_dir():
            shutil.copytree(self.workspace / given["path"], kept, symlinks=True)
            self.caches[given["key"]] = kept
        return True

    def _actions_upload_artifact(self, given: Mapping[str, str]) -> bool:
        target = self.folder / "artifacts" / given["name"]
        target.mkdir(parents=True, exist_ok=True)
        for line in given["path"].split():
            shutil.copy(self.workspace / line, target)
        return True


# stands for uv: `uv run ... xbench WORDS` is this environment's xbench, the rest is recorded
_UV = """\
echo "uv $*" >> "$CALLS"
if [ "$1" != run ]; then exit 0; fi
while [ "$1" != xbench ]; do shift; done
shift
exec "{python}" -m bench.cli.start "$@\""""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _looked_up(name: str, context: Context) -> str:
    found: Any = context
    for part in name.split("."):
        found = found.get(part, "") if isinstance(found, Mapping) else ""
    return _text(found)


def _filled(text: str, context: Context) -> str:
    return _EXPRESSION.sub(lambda found: _looked_up(found[1], context), text)


def _holds(condition: str, context: Context, *, passed: bool) -> bool:
    clauses = condition.split(" && ")
    if "always()" not in clauses and not passed:
        return False
    for clause in clauses:
        if clause in ("always()", "success()"):
            continue
        found = _CLAUSE.fullmatch(clause)
        assert found is not None, clause
        if (_looked_up(found[1], context) == found[3]) != (found[2] == "=="):
            return False
    return True
