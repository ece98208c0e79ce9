"""Rules for every test: the Hub's offline mode, and two switches of continuous integration.

XBENCH_LOOPBACK_ONLY=1 refuses connections to other machines; XBENCH_NO_SKIPS=1 makes a skip fail.
"""

import ipaddress
import os
import socket
import sys
from collections.abc import Generator
from typing import Any

import pytest


class ForeignConnectionError(OSError):
    """A test tried to reach another machine."""


def pytest_configure() -> None:
    """Guard every socket, keep bytecode, and beside other processes compute on one thread.

    No file waits for the disk: tests end processes, not machines, and a run writes hundreds.
    """
    os.fsync = lambda handle: None
    if "PYTEST_XDIST_WORKER" in os.environ:  # before any library counts the cores
        os.environ["OMP_NUM_THREADS"] = "1"
    # the tests start Python hundreds of times: compile torch and its like once
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ["XBENCH_CONFIG"] = os.devnull + "/none"  # not that of whoever runs the tests
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everywhere as in continuous integration
    if os.environ.get("XBENCH_LOOPBACK_ONLY") == "1":
        _guard_sockets()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave offline mode, here and in processes started from here: the Hub is a local server."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn skips into failures where everything that a test may need is at hand."""
    report = yield
    is_skip = report.skipped and not hasattr(report, "wasxfail")
    if is_skip and os.environ.get("XBENCH_NO_SKIPS") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, and XBENCH_NO_SKIPS=1: {report.longrepr}"
    return report


def _guard_sockets() -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise ForeignConnectionError(f"tests reach this machine only, not {address[0]}")
        connect(self, address)

    socket.socket.connect = guarded


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
