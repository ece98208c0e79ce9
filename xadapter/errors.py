"""Errors of X-Adapter: each message has the wrong value and the way to repair it."""

from __future__ import annotations


class XAdapterError(ValueError):
    """A wrong input to X-Adapter."""


class MapperFileError(XAdapterError):
    """A mapper file that is missing, unreadable, or of other names or shapes than a mapper's."""


class MapperFitError(XAdapterError):
    """A mapper whose channels or sides do not fit the two models."""


class SiteError(XAdapterError):
    """A module to tap or inject is missing, or did not run."""


class TrainingFolderError(XAdapterError):
    """A training folder that another process uses, or whose checkpoints are all damaged."""


class SettingError(XAdapterError):
    """A sampling or training setting outside its range."""
