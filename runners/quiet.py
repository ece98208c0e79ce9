"""Keep the libraries silent: what they hint at, this project says itself, once."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Turn off progress bars and hints of diffusers and transformers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
