"""Errors of X-Adapter: each message names the value that is wrong and what to do about it."""

from __future__ import annotations


class XAdapterError(ValueError):
    """A wrong input to X-Adapter."""


class MapperFileError(XAdapterError):
    """A mapper file whose keys or shapes are not those of a mapper."""


class MapperFitError(XAdapterError):
    """A mapper whose channels or sides do not fit the two models."""


class SiteError(XAdapterError):
    """A module that should be tapped or injected is not there, or was not run."""


class SettingError(XAdapterError):
    """A sampling or training setting outside its range."""
