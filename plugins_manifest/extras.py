"""Extras of the distribution: their packages, and the message where one is not installed.

`pip install xbench` brings what reads manifests and results; rendering and serving need more.
"""

from __future__ import annotations

from importlib.util import find_spec

from plugins_manifest.errors import UserError

# extra -> the modules that its packages provide; pyproject.toml has the packages
EXTRAS: dict[str, tuple[str, ...]] = {
    "render": (
        *("torch", "torchvision", "diffusers", "transformers", "tokenizers", "accelerate", "peft"),
        *("open_clip", "cv2", "controlnet_aux", "cleanfid", "lpips"),
    ),
    "leaderboard": (
        *("streamlit", "altair", "duckdb", "starlette", "uvicorn", "anyio", "h11"),
        *("itsdangerous", "sqlalchemy", "psycopg", "krippendorff"),
    ),
    "ray": ("ray",),
}
_USES = {
    "render": "rendering, scoring and training",
    "leaderboard": "the leaderboard and the study",
    "ray": "runs on a cluster",
}


class MissingExtraError(UserError):
    """A package of an extra that is not installed."""


def require_extra(extra: str) -> None:
    """Raise `MissingExtraError` unless all packages of an extra are installed; import none."""
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise MissingExtraError(_message(module, extra))


def missing_extra(error: BaseException | None) -> MissingExtraError | None:
    """Return the message for an import that failed because an extra is missing, else None."""
    while error is not None:
        module = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and module:
            for extra, modules in EXTRAS.items():
                if module in modules and find_spec(module) is None:
                    return MissingExtraError(_message(module, extra))
        error = error.__cause__
    return None


def _message(module: str, extra: str) -> str:
    return (
        f"{module} is not installed: {_USES[extra]} need the extra {extra!r}; install "
        f'"xbench[{extra}]" where you installed "xbench"'
    )
