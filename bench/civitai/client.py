"""Client of Civitai's hosted generator: post jobs, wait for them, download their pictures.

Importing civitai-py without a token raises, so it is imported here alone, when it is used. Messages
contain neither tokens nor signed addresses.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench.errors import UserError
from bench.store.files import decode_image, png_bytes
from plugins_manifest.http import AllowList, Client, Token
from plugins_manifest.outputs import one_line
from plugins_manifest.redact import redact_text
from plugins_manifest.sources.civitai import HOSTS

TOKEN_NAME = "CIVITAI_API_TOKEN"
MAX_IMAGE_BYTES = 64 << 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 10.0


@dataclass(frozen=True)
class Finished:
    """A finished job: the address of its picture, and its cost in Buzz."""

    url: str
    job_id: str | None
    cost: float | None


@dataclass(frozen=True)
class Generator:
    """A client of civitai-py with a download function and a time limit for each job."""

    client: Any
    download: Callable[[str], bytes]
    sleep: Callable[[float], None] = time.sleep
    timeout_seconds: float = 600.0

    def post(self, job: dict[str, Any], *, what: str) -> str:
        """Post a job and return its token; raise `UserError` if it is refused."""
        with _explained(what):
            answer = self.client.image.create(job)
        if not answer.get("token"):
            raise UserError(f"{what}: the generator returned no token for the job: try later")
        return answer["token"]

    def wait(self, token: str, *, what: str) -> Finished:
        """Poll the job, with growing pauses, until its picture is available."""
        waited_s, pause_s = 0.0, _FIRST_PAUSE_S
        while True:
            with _explained(what):
                jobs = self.client.jobs.get(token=token)["jobs"] or []
            for job in jobs:
                if (url := _address(job.get("result"))) is not None:
                    return Finished(url, job.get("jobId"), job.get("cost"))
            if waited_s >= self.timeout_seconds:
                raise UserError(
                    f"{what} is not finished after {self.timeout_seconds:.0f} s: run the same "
                    "command later, it resumes the job"
                )
            self.sleep(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, _LONGEST_PAUSE_S)

    def picture(self, url: str, *, what: str) -> bytes:
        """Return the finished picture as PNG; raise `UserError` if it is not an image."""
        try:
            pixels = decode_image(self.download(url), name="the response")
        except UserError as error:
            raise UserError(f"{what}: {one_line(error)}; or run the command again") from error
        return png_bytes(pixels)


def connect(token: Token, *, endpoint: str | None = None) -> Any:
    """Return a client of the generator; `endpoint` replaces its address (a server, a proxy)."""
    with _token_in_environment(token), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its models are in pydantic 1 style
        import civitai

        client = civitai.Civitai()
    if endpoint is not None:
        client.base_path = endpoint
    return client


@contextmanager
def _token_in_environment(token: Token) -> Iterator[None]:
    """Set the token in the environment, where the package reads it, on import too."""
    before = os.environ.get(TOKEN_NAME)
    os.environ[TOKEN_NAME] = token.value
    try:
        yield
    finally:
        if before is None:
            del os.environ[TOKEN_NAME]
        else:
            os.environ[TOKEN_NAME] = before


def _address(result: Any) -> str | None:
    """Return the picture's address if it is available; one result or a list of them."""
    for item in result if isinstance(result, list) else [result]:
        if isinstance(item, dict) and item.get("blobUrl") and item.get("available", True):
            return str(item["blobUrl"])
    return None


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Raise the generator's errors as `UserError` with the next step, without any secret."""
    from civitai.api_config import HTTPException

    try:
        yield
    except HTTPException as error:
        advice = {
            401: f"set {TOKEN_NAME} to a valid token of your account",
            402: "your account has too little Buzz",
            403: "your account may not use the generator, or has too little Buzz",
            429: "too many requests: try later",
        }.get(error.status_code, "try later")
        raise UserError(f"{what}: the generator answers {error.status_code}: {advice}") from None
    except (httpx.HTTPError, ValueError) as error:
        raise UserError(
            f"{what}: the generator cannot be reached ({one_line(redact_text(str(error)))}): "
            "check the network and run the same command again"
        ) from None


def fetch_picture(url: str) -> bytes:
    """Download over https from a public address, without any token; at most 64 MiB."""
    allow = AllowList(HOSTS).with_hosts([urlsplit(url).hostname or ""])
    with Client(allow=allow, advice="run the command again") as client:
        return client.get(url, what="the picture", most_bytes=MAX_IMAGE_BYTES)
