"""Columns of the result files, with their types; public: others read these files.

A missing number is null, never 0.
"""

from __future__ import annotations

import pyarrow as pa

RUN_FORMAT = 1

_TEXT, _REAL, _WHOLE, _TRUTH = pa.string(), pa.float64(), pa.int64(), pa.bool_()

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
    ]
)

AUDIT = pa.schema(
    [
        ("plugin", _TEXT),
        ("module", _TEXT),  # a parameter of the model, or a module or key of the file
        ("formula", _TEXT),
        ("n_keys", _WHOLE),  # keys of the file that this row accounts for
        ("expected", _REAL),  # norm of the change that the file asks for, at weight 1
        ("applied", _REAL),  # norm of the change read from the model
        ("missing", _TRUTH),  # asked for, and not in the model
        ("extra", _TRUTH),  # in the model, and not asked for
        ("non_finite", _WHOLE),  # values that are NaN or infinite
        # largest |applied - expected| beyond rounding, divided by the largest |expected|
        ("max_error", _REAL),
        ("reason", _TEXT),  # code of plugins_manifest.formats.reasons; null: all is well
        ("detail", _TEXT),
    ]
)
