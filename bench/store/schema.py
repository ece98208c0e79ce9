"""Tables of a run directory: files, columns and types. Public: other programs read these files.

A missing number is null, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

RUN_FORMAT = 1

_TEXT, _REAL, _WHOLE, _TRUTH = pa.string(), pa.float64(), pa.int64(), pa.bool_()

_RETIRED_NUMBERS = (
    *(f"gain{part}{end}" for part in ("_upgraded", "_oracle", "") for end in ("", "_low", "_high")),
    *("score", "score_low", "score_high", "score_split_half"),
)

TRIALS = pa.schema(
    [
        ("trial_id", _TEXT),
        ("plugin", _TEXT),  # plugin or stack id, "" for methods without a plugin (floor)
        ("kind", _TEXT),  # the plugin's, or "stack"
        ("stack", _TEXT),  # JSON list of plugin ids
        ("method", _TEXT),
        ("t0", _REAL),
        ("plugin_scale", _REAL),
        ("adapter_scale", _REAL),
        ("preset", _TEXT),
        ("stage1_mode", _TEXT),
        ("case_id", _TEXT),
        ("base_prompt", _TEXT),
        ("upgraded_prompt", _TEXT),
        ("negative_prompt", _TEXT),
        ("condition_path", _TEXT),  # relative to the run directory; the first of a stack
        ("conditions", _TEXT),  # JSON: plugin id -> path of its condition image
        ("seed", _WHOLE),
        # JSON: steps, guidance_scale, sampler that replace the manifest's; null: none of them.
        # Floor images are references of the plugins with equal ones
        ("settings", _TEXT),
        ("clip_skip", _WHOLE),  # of the base side's text encoder; null: its last layer
        # id of one of several mappers, or words of the method's own settings; null: the run has
        # one mapper, or none, and default settings
        ("adapter", _TEXT),
    ]
)

RESULTS = pa.schema(
    [
        ("trial_id", _TEXT),
        ("status", _TEXT),  # ok | failed | skipped
        ("image", _TEXT),  # relative to the run directory
        ("image_sha256", _TEXT),  # of the PNG file
        ("seconds", _REAL),
        ("peak_memory_mib", _REAL),
        ("effective_t0", _REAL),
        ("error", _TEXT),
        ("origin", _TEXT),  # rendered | cache
        # images of one call of the models; null: all of the planned batch that were missing
        ("batch", _WHOLE),
    ]
)

SCORES = pa.schema(
    [
        ("trial_id", _TEXT),  # null at group level
        ("plugin", _TEXT),
        ("kind", _TEXT),
        ("method", _TEXT),
        ("t0", _REAL),
        ("plugin_scale", _REAL),
        ("adapter_scale", _REAL),
        ("case_id", _TEXT),
        ("seed", _WHOLE),
        ("metric", _TEXT),
        ("recipe", _TEXT),
        ("better", _TEXT),  # higher | lower
        ("level", _TEXT),  # image | group
        ("value", _REAL),
        ("reason", _TEXT),  # why value is null
        ("n", _WHOLE),  # images behind the value
        ("leave_one_out", _TEXT),  # JSON: prompt -> group value without that prompt
        ("inputs", _TEXT),  # hash of the recipe and of every image scored
        ("adapter", _TEXT),  # as in trials.parquet
    ]
)

SUMMARY = pa.schema(
    [
        ("plugin", _TEXT),
        ("kind", _TEXT),
        ("method", _TEXT),
        ("t0", _REAL),
        ("plugin_scale", _REAL),
        ("adapter_scale", _REAL),
        ("metric", _TEXT),
        ("recipe", _TEXT),
        ("better", _TEXT),
        ("value", _REAL),
        ("low", _REAL),
        ("high", _REAL),
        ("n", _WHOLE),
        ("delta_to_base", _REAL),
        ("delta_low", _REAL),
        ("delta_high", _REAL),
        ("seconds", _REAL),
        ("peak_memory_mib", _REAL),
        ("adapter", _TEXT),  # as in trials.parquet
    ]
)

AUDIT = pa.schema(
    [
        ("plugin", _TEXT),
        ("module", _TEXT),  # a parameter of the model, or a module or key of the file
        ("formula", _TEXT),
        ("n_keys", _WHOLE),  # keys of the file that this row accounts for
        ("expected", _REAL),  # norm of the change that the file specifies, at weight 1
        ("applied", _REAL),  # norm of the change read from the model
        ("missing", _TRUTH),  # in the file, and not in the model
        ("extra", _TRUTH),  # in the model, and not in the file
        ("non_finite", _WHOLE),  # values that are NaN or infinite
        # largest |applied - expected| beyond rounding, divided by the largest |expected|
        ("max_error", _REAL),
        ("reason", _TEXT),  # code of plugins_manifest.formats.reasons; null: no problem
        ("detail", _TEXT),
    ]
)

# scores of the source pictures themselves: the ceiling of a condition metric
CEILINGS = pa.schema(
    [
        ("plugin", _TEXT),
        ("case_id", _TEXT),
        ("metric", _TEXT),
        ("recipe", _TEXT),
        ("value", _REAL),
        ("reason", _TEXT),  # why value is null
        ("inputs", _TEXT),  # hash of the recipe and of every case
    ]
)

# How well each plugin works after the upgrade. Every number of a row is measured on all prompts;
# intervals are 95 % over whole prompts, none below 12 of them. Two levels of rows:
#   setting  one way to make images (plugin, method, t0, scales); base, floor and oracle too
#   method   one method of a plugin, at the setting of it to use
COMPATIBILITY = pa.schema(
    [
        ("level", _TEXT),  # setting | method
        ("plugin", _TEXT),
        ("kind", _TEXT),
        ("method", _TEXT),
        ("t0", _REAL),  # null: the method has none, or (level method) none can be recommended
        ("plugin_scale", _REAL),
        ("adapter_scale", _REAL),
        # works | degraded | lost | open; null for base, floor and oracle. Tests of contrasts,
        # one-sided, corrected over the plugin's settings
        ("verdict", _TEXT),
        ("verdict_p", _REAL),  # Holm's p of the verdict; null where open
        ("verdict_more_prompts", _WHOLE),  # about how many more decide an open one
        ("verdict_reason", _TEXT),  # why it is open, where numbers of prompts are not the reason
        # measured | no effect (not even on the base model: not incompatible) | not measured
        ("status", _TEXT),
        ("reason", _TEXT),  # why retention is null
        ("function_metric", _TEXT),  # what the plugin is for; null: the run has no such metric
        ("function_better", _TEXT),  # higher | lower
        ("function", _REAL),
        ("function_low", _REAL),
        ("function_high", _REAL),
        # share of the plugin's effect kept, (f - f_floor) / (f_base - f_floor), with Fieller's
        # set; not clipped
        ("retention", _REAL),
        ("retention_low", _REAL),
        ("retention_high", _REAL),
        # (f - f_floor) / (f_ceiling - f_floor) with the native plugin (method oracle) as ceiling
        ("normalized_oracle", _REAL),
        ("normalized_oracle_low", _REAL),
        ("normalized_oracle_high", _REAL),
        # the same with the detector's score of the source picture as ceiling (conditions only)
        ("normalized_source", _REAL),
        ("normalized_source_low", _REAL),
        ("normalized_source_high", _REAL),
        # distance q of the images' look, in the metric's own units: to the segment from the
        # upgraded model's own images to the native plugin's, or to the former alone
        ("quality", _REAL),
        ("quality_low", _REAL),
        ("quality_high", _REAL),
        ("quality_metric", _TEXT),
        ("quality_reference", _TEXT),  # segment | floor
        # like the new model | between | like the old model | cannot be told; null for references
        ("quality_word", _TEXT),
        ("quality_more_prompts", _WHOLE),  # about how many more tell what cannot be told
        ("quality_reason", _TEXT),  # why quality is null, or has no word
        # place w along the segment: 0 the upgraded model's look, 1 the native plugin's
        ("place", _REAL),
        ("place_low", _REAL),
        ("place_high", _REAL),
        # number for sorting, clip(retention) x clip(1 - q / k); of a method: cross-fitted, with an
        # interval from 60 prompts on. Not for base, floor and oracle
        ("sort_value", _REAL),
        ("sort_value_low", _REAL),
        ("sort_value_high", _REAL),
        ("sort_reason", _TEXT),  # why it is null
        # level method: mean over its t0 (scales nearest to 1) of retention clipped to 0..1, which
        # ranks methods and mappers: no choice and no quality in it; and those t0
        ("kept", _REAL),
        ("kept_low", _REAL),
        ("kept_high", _REAL),
        ("kept_t0s", _TEXT),  # "0.5, 0.7"; "" for a method without t0
        # level setting: not told from the plugin's best setting
        ("among_best", _TRUTH),
        # the setting to use: of those not told from the best, the cheapest (at both levels)
        ("recommended", _TRUTH),
        ("choice_reason", _TEXT),  # why none of the plugin's settings can be recommended
        ("n", _WHOLE),  # images behind `function`
        ("n_prompts", _WHOLE),
        ("seconds", _REAL),  # per image, mean
        ("peak_memory_mib", _REAL),
        ("recipe", _TEXT),  # metrics, references, thresholds: what changes these numbers
        # of earlier versions, null since: gain in quality and area score
        *((name, _REAL) for name in _RETIRED_NUMBERS),
        *((name, _TEXT) for name in ("gain_reference", "gain_metric", "gain_reason")),
        ("score_reason", _TEXT),
        ("adapter", _TEXT),  # as in trials.parquet
    ]
)

# columns of SCORES that stay in the run directory: they name prompts, or serve resuming alone
UNPUBLISHED_SCORES = frozenset({"n", "leave_one_out", "inputs"})


@dataclass(frozen=True)
class RunTable:
    """A table of a run: a Parquet file, or several in one folder.

    `pattern` is relative to the run directory; its `*` is the name of a part. `published` are the
    columns in a published store, None for a table that is not published.
    """

    pattern: str
    columns: pa.Schema
    title: str
    published: pa.Schema | None
    is_optional: bool = False


TABLES: Mapping[str, RunTable] = {
    "trials": RunTable("trials.parquet", TRIALS, "The plan", TRIALS),
    "results": RunTable(
        "results/*.parquet", RESULTS, "Results", RESULTS.append(pa.field("thumbnail", _TEXT))
    ),
    "scores": RunTable(
        "scores/*.parquet",
        SCORES,
        "Scores",
        pa.schema([field for field in SCORES if field.name not in UNPUBLISHED_SCORES]),
    ),
    "ceilings": RunTable("scores/ceilings/*.parquet", CEILINGS, "Ceilings", None),
    "summary": RunTable("tables/summary.parquet", SUMMARY, "The summary", SUMMARY),
    "compatibility": RunTable(
        "tables/compatibility.parquet", COMPATIBILITY, "The compatibility table", COMPATIBILITY
    ),
    "audit": RunTable("audit.parquet", AUDIT, "The load audit", AUDIT, is_optional=True),
}
PUBLISHED: Mapping[str, pa.Schema] = {
    name: table.published for name, table in TABLES.items() if table.published is not None
}
