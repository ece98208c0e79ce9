"""Weight plugins: merged into a side's UNet and text encoder, and restored bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from plugins_manifest.content import state_of
from plugins_manifest.errors import UserError
from plugins_manifest.formats import Header, ParsedPlugin, UnsafeFile, parse, read_header
from plugins_manifest.schema.kinds import find_kind
from runners.audit import Audit, AuditRow, PluginNotAppliedError, require_complete
from runners.base import PluginFile
from runners.families import Family
from runners.plugins.attachment import Attachment
from runners.plugins.bundled import attached_words, bundled_words
from runners.plugins.network_file import read_tensors
from runners.plugins.textual_inversion import TextualInversionPlugin
from runners.weights import PluginWeights, merged_into, parameters_of, verify_weights
from runners.weights.unused_keys import rows_of_the_rest

# Per UNet and file: the parameters that are left out, and the rows.
_Verdicts = dict[tuple[Any, ...], tuple[frozenset[str], tuple[AuditRow, ...]]]
_VERIFIED: WeakKeyDictionary[nn.Module, _Verdicts] = WeakKeyDictionary()


@dataclass(frozen=True)
class WeightPlugin:
    """The part of a file that can be merged, verified in the model."""

    file: PluginFile
    weights: PluginWeights
    audit: Audit
    words: tuple[TextualInversionPlugin, ...] = ()

    @contextmanager
    def attached(self, family: Family, *, strength: float) -> Iterator[Attachment]:
        """Merge into the plugin's side; every weight is restored on exit, bit for bit."""
        targets = side_parameters(self.file, family)
        with (
            merged_into(targets, self.weights, strength=strength),
            attached_words(self.words if strength else (), family) as attachment,
        ):
            yield attachment


def load_weight_plugin(file: PluginFile, family: Family) -> WeightPlugin:
    """Read a file, attach it once, and compare the model with the changes in the file.

    Raises `UserError` for files that are not safetensors or not weight plugins, and
    `PluginNotAppliedError` unless everything is applied or the plugin may be partial.
    """
    header = _header(file)
    targets = side_parameters(file, family)
    parsed = parse(header, {name: tuple(p.shape) for name, p in targets.items()})
    kind = find_kind(parsed.kind)
    if kind is None or not kind.changes_weights:
        raise UserError(
            f"plugin {file.plugin_id!r}: {file.path.name} is of kind {parsed.kind}, not lora or "
            "lycoris: correct its kind in the manifest"
        )
    tensors = read_tensors(file, file.path)
    found = PluginWeights(parsed.changes, tensors, file.lora_semantics or "standard")
    unet = (family.base if file.side == "base" else family.upgraded).unet
    weights, rows = _verified(found, file=file, model=unet, targets=targets)
    words, word_rows = bundled_words(file, parsed.embeddings, tensors, family)
    audit = Audit((*rows, *word_rows, *rows_of_the_rest(parsed, header)))
    _require(audit, file=file, parsed=parsed, family=family)
    return WeightPlugin(file, weights, audit, words)


def side_parameters(file: PluginFile, family: Family) -> dict[str, nn.Parameter]:
    """Return the parameters, by canonical name, that a plugin of this side may change."""
    if file.side == "base":
        models = [("unet", family.base.unet), ("text_encoder", family.base.text_encoder)]
    else:
        names = ("unet", "text_encoder", "text_encoder_2")
        models = [(name, getattr(family.upgraded, name, None)) for name in names]
    return parameters_of(models)


def _verified(
    found: PluginWeights,
    *,
    file: PluginFile,
    model: nn.Module,
    targets: Mapping[str, nn.Parameter],
) -> tuple[PluginWeights, tuple[AuditRow, ...]]:
    """Verify a file once in a model that stays loaded: a run loads a plugin per batch."""
    content = file.planned_content or (str(file.path), state_of(file.path))
    key = (content, file.side, found.semantics)
    known = _VERIFIED.setdefault(model, {})
    if key not in known:
        weights, rows = verify_weights(found, targets)
        left_out = {c.target for c in found.changes} - {c.target for c in weights.changes}
        known[key] = frozenset(left_out), tuple(rows)
    left_out, rows = known[key]
    return found.without(left_out), rows


def _header(file: PluginFile) -> Header:
    if not file.path.is_file():
        raise UserError(f"plugin {file.plugin_id!r}: there is no file {str(file.path)!r}")
    try:
        return read_header(file.path)
    except UnsafeFile as error:
        refused = AuditRow(file.path.name, missing=True, reason=error.code, detail=str(error))
        raise PluginNotAppliedError(
            f"plugin {file.plugin_id!r}: {file.path.name} is not a safetensors file ({error})",
            Audit((refused,)),
        ) from error


def _require(audit: Audit, *, file: PluginFile, parsed: ParsedPlugin, family: Family) -> None:
    made_for = f" (made for {parsed.base_model})" if parsed.base_model != "unknown" else ""
    require_complete(
        audit,
        plugin_id=file.plugin_id,
        what=f"{file.path.name}{made_for} on the {file.side} model of {family.name!r}",
        allow_partial=file.allow_partial,
    )
