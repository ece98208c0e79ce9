"""A job: a manifest and a selection, resolved once into files, cases and weights.

Planning, preflight, resuming and `xbench plan` work on the job. Makes no network requests: each
entry is a value or a `MissingItem`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.errors import UserError, shown_path
from bench.plan.adapters import hashed_adapters, missing_adapters, one_adapter, several_adapters
from bench.plan.cases import all_cases
from bench.plan.judges import with_brought_methods, with_default_metrics
from bench.plan.plugin_files import NotFetchedError, label_of, locked_entry, resolve_plugin
from bench.plan.selection import Selection
from plugins_manifest.cases import Case, CasesNotFetchedError
from plugins_manifest.installed import extension_errors
from plugins_manifest.schema import Manifest, Settings
from plugins_manifest.schema.kinds import KINDS
from plugins_manifest.schema.manifest import PluginSpec
from runners.base import PluginFile
from runners.families import family_fingerprint, family_traits
from runners.families.registry import AdapterFile

_COCO_LICENSE = "captions CC BY 4.0, each photo its own"
_NOT_PINNED = "known once locked"


@dataclass(frozen=True)
class MissingItem:
    """Something that is not on this machine; `get` is the command, or what to do.

    Sizes may be unknown. Items with `is_own` are not published: the user provides them. `problem`
    is the message that refuses a run; None where a run goes on without the item. `n_cases` counts
    missing cases.
    """

    what: str
    get: str
    megabytes: int | None = None
    license: str | None = None
    is_own: bool = False
    problem: str | None = None
    n_cases: int = 0

    def as_data(self) -> dict[str, object]:
        """Return plain data for `--json`."""
        data = asdict(self)
        del data["problem"], data["n_cases"]
        return data


CasesBySet = Mapping[str, list[Case]]  # by the id of a plugin or stack


@dataclass(frozen=True)
class Job:
    """A resolved request.

    `written` is the manifest as read, `manifest` its selected part, with the default metrics if it
    has none. `weights` are sha256 of the family's parts; a family without a mapper has no "mapper",
    nor has a job of several `adapters`, which have their own.
    `problems` were found on the way: what they concern is not in the job.
    """

    written: Manifest
    manifest: Manifest
    selection: Selection
    plugins: Mapping[str, PluginFile | MissingItem]
    cases: CasesBySet | MissingItem
    weights: Mapping[str, str]
    problems: tuple[str, ...] = ()
    adapters: tuple[AdapterFile, ...] = ()

    @property
    def adapter(self) -> Path | None:
        """The one mapper that replaces the family's; None for the family's own, or for several."""
        return one_adapter(self.manifest, self.selection.adapter)

    @property
    def files(self) -> dict[str, PluginFile]:
        """Plugin id -> its file, of the plugins that are on this machine."""
        found = self.plugins.items()
        return {name: file for name, file in found if isinstance(file, PluginFile)}

    @property
    def cases_by_set(self) -> CasesBySet:
        """Id of a plugin or stack -> its cases; empty where they are missing."""
        return {} if isinstance(self.cases, MissingItem) else self.cases

    @property
    def missing(self) -> list[MissingItem]:
        """The plugins and cases that are not on this machine."""
        values = (*self.plugins.values(), self.cases)
        return [value for value in values if isinstance(value, MissingItem)]

    def require_complete(self) -> None:
        """Raise one `UserError` for everything that is wrong or missing."""
        lacking = (item.problem for item in self.missing)
        if problems := [*self.problems, *(problem for problem in lacking if problem)]:
            raise UserError.collect(problems)


def with_family_settings(manifest: Manifest) -> Manifest:
    """Return the manifest with its family's defaults for the settings that it does not state."""
    given = {key: getattr(manifest.settings, key) for key in manifest.settings.model_fields_set}
    defaults = family_traits(manifest.family).default_settings
    if not defaults.keys() - given.keys():
        return manifest
    with extension_errors(f"family {manifest.family!r}", "has broken default_settings"):
        settings = Settings(**{**defaults, **given})
    return manifest.model_copy(update={"settings": settings})


def resolve_job(manifest: Manifest, selection: Selection) -> Job:
    """Apply a selection to a manifest, and find files, cases and weights.

    Problems are collected in the job. With an unknown plugin in the selection all plugins are
    resolved, to find their problems too. Raises `UserError` for a damaged lock file.
    """
    unknown = selection.unknown_plugins(manifest)
    problems = [*unknown, *selection.problems()]
    chosen = with_default_metrics(manifest if unknown else selection.apply(manifest))
    chosen = with_brought_methods(chosen)
    plugins = _resolve_plugins(chosen, problems)
    cases = _resolve_cases(chosen, selection, problems)
    weights, adapters = _resolve_weights(chosen, selection, problems)
    return Job(manifest, chosen, selection, plugins, cases, weights, tuple(problems), adapters)


def _resolve_weights(
    manifest: Manifest, selection: Selection, problems: list[str]
) -> tuple[Mapping[str, str], tuple[AdapterFile, ...]]:
    if several := several_adapters(manifest):
        if selection.adapters is None:
            problems += missing_adapters(several)
        return hashed_adapters(several, manifest.family, problems)
    adapter = one_adapter(manifest, selection.adapter)
    if selection.adapter is None and adapter is not None and not adapter.exists():
        problems.append(f"adapters: there is nothing at {shown_path(adapter)}: check the path")
    elif adapter is None or adapter.exists():
        try:
            return family_fingerprint(manifest.family, adapter=adapter), ()
        except UserError as error:
            problems += error.problems
    return {}, ()


def _resolve_plugins(
    manifest: Manifest, problems: list[str]
) -> Mapping[str, PluginFile | MissingItem]:
    found: dict[str, PluginFile | MissingItem] = {}
    for spec in manifest.plugins:
        try:
            found[spec.id] = resolve_plugin(spec, manifest)
        except NotFetchedError as error:
            found[spec.id] = _missing_plugin(spec, manifest, str(error))
        except UserError as error:
            problems += error.problems
    return found


def _missing_plugin(spec: PluginSpec, manifest: Manifest, problem: str) -> MissingItem:
    entry = locked_entry(spec, manifest)
    n_bytes = entry.size_bytes if entry else None
    license_ = spec.license or (entry.license.name if entry else None)
    return MissingItem(
        f"plugin {spec.id} ({spec.kind})",
        f"xbench plugins fetch {label_of(manifest)}",
        round(n_bytes / 1e6) if n_bytes else KINDS[spec.kind].typical_mb,
        license_ or ("not stated" if entry else _NOT_PINNED),
        problem=problem,
    )


def _resolve_cases(
    manifest: Manifest, selection: Selection, problems: list[str]
) -> CasesBySet | MissingItem:
    try:
        return all_cases(manifest, limit=selection.limit)
    except CasesNotFetchedError as error:
        return _missing_photos(error, manifest, selection)
    except UserError as error:
        problems += error.problems
        return {}


def _missing_photos(
    error: CasesNotFetchedError, manifest: Manifest, selection: Selection
) -> MissingItem:
    captions = "" if error.has_captions else ", and their captions"
    limit = f" --limit {selection.limit}" if selection.limit else ""
    return MissingItem(
        f"{error.n_photos:,} photos of COCO val2017{captions}",
        f"xbench cases fetch {label_of(manifest)}{limit}",
        round(error.n_bytes / 1e6),
        _COCO_LICENSE,
        problem=str(error),
        n_cases=error.n_cases,
    )
