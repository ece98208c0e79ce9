"""Run nginx on loopback with the configuration of docs/deploy.md."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

_NGINX = Path("/usr/sbin/nginx")
_DOCS = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
_WHOLE = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@contextmanager
def running_proxy(folder: Path, replicas: Sequence[str], *, visitor: str) -> Iterator[str]:
    """Start a proxy for replicas, return its https address; all requests come from one address."""
    if not _NGINX.exists():
        pytest.skip("nginx is not installed: run scripts/install-test-servers")
    port = _free_port()
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "key.pem")
    )
    (folder / "site.conf").write_text(_site(folder, replicas, port=port, visitor=visitor))
    # its workers also write to the folder
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(user + _WHOLE.format(folder=folder))
    log = folder / "error.log"
    command = [_NGINX, "-e", log, "-c", folder / "nginx.conf"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(process, port, log)
            yield f"https://127.0.0.1:{port}"
        finally:
            process.terminate()


def _site(folder: Path, replicas: Sequence[str], *, port: int, visitor: str) -> str:
    """Fill local values into the documented configuration, which must contain each placeholder."""
    one, several = re.findall(r"```nginx\n(.*?)```", _DOCS.read_text(), re.DOTALL)
    text = re.sub(r"upstream xbench \{.*?\n\}\n", lambda _: several, one, flags=re.DOTALL)
    servers = "".join(f"    server {address};\n" for address in replicas)
    for pattern, value in (
        (r"(    server 10\.0\.0\.\d+:8501;\n)+", servers),
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"/etc/ssl/\S+\.(pem|key)", f"{folder}/key.pem"),
        (r"\$remote_addr;", f"{visitor};"),
    ):
        text, n_found = re.subn(pattern, lambda _, value=value: value, text)
        assert n_found, pattern
    return text


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
