"""Errors of huggingface_hub as `FetchError`, for every use of the Hub: one rule per class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plugins_manifest.errors import FetchCode, FetchError
from plugins_manifest.outputs import one_line
from plugins_manifest.redact import redact_text

_OFFLINE = (
    " is not in the local cache, and offline mode is on: unset HF_HUB_OFFLINE, or fetch it on a "
    "machine that is online"
)
_NO_FILE = " has no such file: check the path"
_UNREACHABLE = " cannot be reached: check the network (HF_ENDPOINT names a mirror)"

_STATUSES: dict[int, tuple[str, FetchCode]] = {
    401: (" needs a valid login: set HF_TOKEN", "needs-token"),
    403: (
        " is not permitted (status 403): set HF_TOKEN to a token with the right to do this",
        "needs-token",
    ),
    429: (": the Hub gets too many requests: try later", "busy"),
}


@contextmanager
def hub_errors_explained(what: str) -> Iterator[None]:
    """Raise the Hub's errors as `FetchError` about `what`, without their texts' signed URLs."""
    from huggingface_hub import errors

    try:
        yield
        return
    except (
        errors.HTTPError,
        errors.HFValidationError,
        errors.XetDownloadError,
        errors.EntryNotFoundError,
        OSError,
        # the response of another server, or a failed upload
        *(ValueError, KeyError, TypeError, RuntimeError),
    ) as error:
        failure = translate_hub_error(error, what)
    raise failure


def translate_hub_error(error: Exception, what: str) -> FetchError:
    """Return the error with the next step for the user."""
    for kind, text, code in _rules():
        if isinstance(error, kind):
            return FetchError(f"{what}{text}", code=code)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        other = (f": the Hub responds with status {status}: try later", "refused")
        text, code = _STATUSES.get(status, other)
        return FetchError(f"{what}{text}", code=code)
    if isinstance(error, OSError) and error.errno is not None:
        text = one_line(redact_text(str(error.strerror)))
        return FetchError(f"{what}: {text}: check disk space and rights of HF_HOME", code="disk")
    return FetchError(f"{what}{_UNREACHABLE}", code="unreachable")


def _rules() -> tuple[tuple[type[Exception], str, FetchCode], ...]:
    """Return (class, message, code); subclasses come before their bases."""
    from huggingface_hub import errors

    return (
        (
            errors.GatedRepoError,
            ": skipped:gated: accept its terms on its page, then set HF_TOKEN",
            "gated",
        ),
        (
            errors.RepositoryNotFoundError,
            ": there is no such repository, or it is private: check the name, or set HF_TOKEN",
            "missing",
        ),
        (errors.RevisionNotFoundError, " has no such revision: give a commit of it", "missing"),
        (errors.DisabledRepoError, " is disabled on the Hub: name another source", "gone"),
        (errors.RemoteEntryNotFoundError, _NO_FILE, "missing"),
        (errors.OfflineModeIsEnabled, _OFFLINE, "offline"),
        (errors.IncompleteSnapshotError, _OFFLINE, "offline"),
        (
            errors.LocalEntryNotFoundError,
            " is not in the local cache, and the Hub cannot be reached: check the network, "
            "HF_ENDPOINT and HF_HUB_OFFLINE",
            "offline",
        ),
        (errors.EntryNotFoundError, _NO_FILE, "missing"),
        (
            errors.XetDownloadError,
            ": the download failed: run the same command again, or set HF_HUB_DISABLE_XET=1",
            "unreachable",
        ),
        (
            errors.FileMetadataError,
            " comes without the size and hash that the Hub sends: check HF_ENDPOINT's mirror",
            "refused",
        ),
        (errors.HFValidationError, " is not a valid name on the Hub: check it", "bad-request"),
    )
