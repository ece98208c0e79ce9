"""An S3 server of this machine: moto's, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import botocore.session

BUCKET = "board"
_START_SECONDS = 60
_KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "of-the-tests-0123456789"}


@contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """Return what the environment must hold to reach the server, which has one bucket, `BUCKET`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"http://127.0.0.1:{port}"
    settings = {**_KEYS, "AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
    server = subprocess.Popen(command, env={**os.environ, **settings}, **quiet)
    try:
        _wait(port, server)
        s3_client(settings).create_bucket(Bucket=BUCKET)
        yield settings
    finally:
        server.terminate()
        server.wait()


def s3_client(settings: dict[str, str]):
    """Return a plain client of the server."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        region_name=settings["AWS_DEFAULT_REGION"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
    )


def _wait(port: int, server: subprocess.Popen) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 server did not start")
