"""Weight plugins: merged into a side's network and text encoder, and restored bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from plugins_manifest.content import state_of
from plugins_manifest.formats import ParsedPlugin
from runners.audit import Audit, AuditRow, require_complete
from runners.base import PluginFile
from runners.families import Family
from runners.families.family import denoising_part
from runners.plugins.attachment import Attachment
from runners.plugins.bundled import attached_words, bundled_words
from runners.plugins.network_file import read_tensors
from runners.plugins.opened import open_plugin, side_parameters
from runners.plugins.textual_inversion import TextualInversionPlugin
from runners.weights import PluginWeights, merged_into, verify_weights
from runners.weights.unused_keys import rows_of_the_rest

_TEXT = "text_encoder"  # and text_encoder_2
_LOG = logging.getLogger(__name__)
# Per network and file: the parameters that are left out, and the rows.
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
            merged_into(targets, self.weights, strength=strength) as taken_off,
            attached_words(self.words if strength else (), family) as attachment,
        ):
            changes = self.weights.changes if strength else ()
            yield attachment.joined(
                Attachment(
                    changes_text=any(c.target.startswith(_TEXT) for c in changes),
                    taken_off=taken_off if changes else None,
                )
            )


def load_weight_plugin(file: PluginFile, family: Family) -> WeightPlugin:
    """Read a file, attach it once, and compare the model with the changes in the file.

    Raises `UserError` for files that are not safetensors or not weight plugins, and
    `PluginNotAppliedError` unless everything is applied or the plugin may be partial.
    """
    opened = open_plugin(file, family)
    header, parsed, targets = opened.header, opened.parsed, side_parameters(file, family)
    tensors = read_tensors(file, opened.weights)
    found = PluginWeights(parsed.changes, tensors, file.lora_semantics or "standard")
    model = denoising_part(family.pipe(file.side))[1]
    weights, rows = _verified(found, file=file, model=model, targets=targets, notes=parsed.notes)
    words, word_rows = bundled_words(file, parsed.embeddings, tensors, family)
    audit = Audit((*rows, *word_rows, *rows_of_the_rest(parsed, header)))
    _require(audit, file=file, parsed=parsed, family=family)
    return WeightPlugin(file, weights, audit, words)


def _verified(
    found: PluginWeights,
    *,
    file: PluginFile,
    model: nn.Module,
    targets: Mapping[str, nn.Parameter],
    notes: Sequence[str],
) -> tuple[PluginWeights, tuple[AuditRow, ...]]:
    """Verify a file once in a model that stays loaded: a run loads a plugin per batch."""
    content = file.planned_content or (str(file.path), state_of(file.path))
    scales = tuple((change.target, change.alpha, change.factor) for change in found.changes)
    key = (content, file.side, found.semantics, scales)
    known = _VERIFIED.setdefault(model, {})
    if key not in known:
        for note in notes:
            _LOG.warning("plugin %r: %s", file.plugin_id, note)
        weights, rows = verify_weights(found, targets)
        left_out = {c.target for c in found.changes} - {c.target for c in weights.changes}
        known[key] = frozenset(left_out), tuple(rows)
    left_out, rows = known[key]
    return found.without(left_out), rows


def _require(audit: Audit, *, file: PluginFile, parsed: ParsedPlugin, family: Family) -> None:
    made_for = f" (made for {parsed.base_model})" if parsed.base_model != "unknown" else ""
    require_complete(
        audit,
        plugin_id=file.plugin_id,
        what=f"{file.path.name}{made_for} on the {file.side} model of {family.name!r}",
        allow_partial=file.allow_partial,
    )
