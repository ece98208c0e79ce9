"""The Hub library's errors as ours: one rule per class, each with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plugins_manifest.fetch_errors import FetchError
from plugins_manifest.redact import one_line, redact_text


@contextmanager
def hub_errors_explained(what: str, repository: str, revision: str | None) -> Iterator[None]:
    """The Hub's errors as ours; their own texts may hold signed addresses."""
    from huggingface_hub import errors

    at = f"{repository}@{revision}" if revision else repository
    try:
        yield
        return
    except (
        errors.HTTPError,
        errors.HFValidationError,
        errors.XetDownloadError,
        errors.EntryNotFoundError,
        OSError,
    ) as error:
        failure = translate(error, f"{what}: {at}")
    raise failure


def translate(error: Exception, what: str) -> FetchError:
    """One rule per error class; subclasses stand before their bases."""
    from huggingface_hub import errors

    unreachable = "cannot be reached: check the network (HF_ENDPOINT names a mirror)"
    offline = (
        "is not in the local cache, and offline mode is on: unset HF_HUB_OFFLINE, or fetch it on "
        "a machine that is online"
    )
    rules: tuple[tuple[type[Exception], str, Any], ...] = (
        (
            errors.GatedRepoError,
            "skipped:gated: accept its terms on its page, then set HF_TOKEN",
            "gated",
        ),
        (
            errors.RepositoryNotFoundError,
            "there is no such repository, or it is private: check the name, or set HF_TOKEN",
            "missing",
        ),
        (errors.RevisionNotFoundError, "has no such revision: give a commit of it", "missing"),
        (errors.DisabledRepoError, "is disabled on the Hub: name another source", "gone"),
        (errors.RemoteEntryNotFoundError, "has no such file: check the path", "missing"),
        (errors.OfflineModeIsEnabled, offline, "offline"),
        (errors.IncompleteSnapshotError, offline, "offline"),
        (
            errors.LocalEntryNotFoundError,
            "is not in the local cache, and the Hub cannot be reached: check the network, "
            "HF_ENDPOINT and HF_HUB_OFFLINE",
            "offline",
        ),
        (errors.EntryNotFoundError, "has no such file: check the path", "missing"),
        (
            errors.XetDownloadError,
            "breaks off: run the same command again, or set HF_HUB_DISABLE_XET=1",
            "unreachable",
        ),
        (
            errors.FileMetadataError,
            "comes without the size and hash that the Hub sends: check HF_ENDPOINT's mirror",
            "refused",
        ),
        (errors.HFValidationError, "is no name that the Hub can have: check it", "bad-request"),
    )
    for kind, words, code in rules:
        if isinstance(error, kind):
            return FetchError(f"{what} {words}", code=code)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return FetchError(f"{what} needs a valid login: set HF_TOKEN", code="needs-token")
    if status == 429:
        return FetchError(f"{what}: the Hub gets too many requests: try later", code="busy")
    if status is not None:
        return FetchError(f"{what}: the Hub answers status {status}: try later", code="refused")
    if isinstance(error, OSError) and error.errno is not None:
        text = one_line(redact_text(str(error.strerror)))
        return FetchError(f"{what}: {text}: check disk space and rights of HF_HOME", code="disk")
    return FetchError(f"{what} {unreachable}", code="unreachable")
