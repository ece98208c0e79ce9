"""The tables of a publication: the published columns of `TABLES`, without anything private."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.errors import UserError
from bench.publish.pictures import Published, UploadQueue
from bench.publish.redaction import Privacy
from bench.store import PUBLISHED, TABLES, RunStore
from bench.store.documents import paths_of
from bench.store.parquet import open_parquet, read_bytes
from plugins_manifest.text import first_line

Tables = Mapping[str, pa.Table]  # by the names of `PUBLISHED`
_MAX_ROWS = 2_000_000  # of one file
_PROMPTS = {"base_prompt", "upgraded_prompt", "negative_prompt"}
# names, ids and closed words: other tables refer to them, so they are kept unchanged
_NAMES = {
    *("trial_id", "plugin", "kind", "stack", "method", "preset", "stage1_mode", "case_id"),
    "adapter",
    *("status", "image_sha256", "origin", "metric", "better", "level", "formula", "module"),
    *("function_metric", "function_better", "gain_reference", "gain_metric"),
}
# pictures, which are renamed
_PICTURES = {"image", "thumbnail", "condition_path", "conditions"}
_ERROR_KIND = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Warning)\b")


def read_tables(store: RunStore, problems: list[str]) -> Tables:
    """Return all tables with the columns to publish; add unreadable files to the problems."""
    found = {name: _read_table(store, name, problems) for name in PUBLISHED if name != "results"}
    columns = TABLES["results"].columns  # the thumbnails are made when they are published
    try:
        results = pa.Table.from_pandas(store.results(), schema=columns, preserve_index=False)
    except (UserError, pa.ArrowException) as error:
        problems.append(f"results: {error}")
        results = columns.empty_table()
    return {name: found.get(name, results) for name in PUBLISHED}


def _read_table(store: RunStore, name: str, problems: list[str]) -> pa.Table:
    table, columns = TABLES[name], PUBLISHED[name]
    paths = store.table_paths(name)
    if not (paths or table.is_optional or "*" in table.pattern):
        problems.append(f"{table.pattern} is missing: run `xbench report RUN`, or finish the run")
    parts = [columns.empty_table()]
    for path in paths:
        try:
            parts.append(_read(path, columns))
        except (UserError, pa.ArrowException, OSError, OverflowError, ValueError) as error:
            where = path.relative_to(store.folder).as_posix()
            problems.append(f"{where} cannot be read: {first_line(error)}")
    return pa.concat_tables(parts)


def _read(path: Path, columns: pa.Schema) -> pa.Table:
    table = open_parquet(read_bytes(path, name=path.name), name=path.name).read()
    return pa.table(
        [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in columns
        ],
        schema=columns,
    )


def kept_rows(table: pa.Table, *, plugins: Collection[str], cases: Collection[str]) -> pa.Table:
    """Return the rows of other plugins and other cases."""
    if plugins:
        table = table.filter(~pc.field("plugin").isin(sorted(plugins)))
    if cases and "case_id" in table.column_names:
        table = table.filter(~pc.field("case_id").isin(sorted(cases)))
    return table


def of_trials(table: pa.Table, trial_ids: pa.ChunkedArray) -> pa.Table:
    """Return the rows of some trials."""
    return table.filter(pc.field("trial_id").isin(trial_ids.to_pylist()))


def public_trials(
    table: pa.Table, conditions: Mapping[str, Published], privacy: Privacy
) -> pa.Table:
    """Return the plan; condition images are named by their objects, null if they are missing."""

    def one(path: str) -> str | None:
        found = conditions.get(path)
        return found.thumbnail if found else None

    def several(text: str) -> str:
        named = paths_of(text)
        return json.dumps({plugin: name for plugin, path in named.items() if (name := one(path))})

    table = public_table(table, privacy)
    table = _changed(table, "condition_path", one)
    return _changed(table, "conditions", several)


def public_results(
    table: pa.Table, pictures: Mapping[str, Published], privacy: Privacy
) -> pa.Table:
    """Return results with the objects of their pictures; errors are reduced to their type."""
    found = [pictures.get(trial) for trial in table["trial_id"].to_pylist()]
    table = _changed(public_table(table, privacy), "error", _error_kind)
    names = pa.array([picture and picture.image for picture in found], pa.string())
    table = table.set_column(table.schema.get_field_index("image"), "image", names)
    small = pa.array([picture and picture.thumbnail for picture in found], pa.string())
    return table.append_column("thumbnail", small).cast(PUBLISHED["results"])


def public_table(table: pa.Table, privacy: Privacy) -> pa.Table:
    """Redact prompts as content and all other text as technical text; names are kept."""
    for field in table.schema:
        if field.type != pa.string() or field.name in _NAMES | _PICTURES | {"error"}:
            continue
        change = privacy.content if field.name in _PROMPTS else privacy.technical
        table = _changed(table, field.name, change)
    return table


def private_names(table: pa.Table, privacy: Privacy) -> list[str]:
    """Return the columns of names with private values: they cannot be redacted, only refused."""
    return [
        name
        for name in table.column_names
        if name in _NAMES
        and any(privacy.is_private(v) for v in table[name].unique().to_pylist() if v)
    ]


def queue_table(table: pa.Table, queue: UploadQueue) -> list[str]:
    """Put a table into the queue; return the names of its objects."""
    starts = range(0, max(table.num_rows, 1), _MAX_ROWS)
    return [_queued(table.slice(start, _MAX_ROWS), queue) for start in starts]


def _queued(table: pa.Table, queue: UploadQueue) -> str:
    buffer = io.BytesIO()
    plain = table.combine_chunks().replace_schema_metadata(None)
    pq.write_table(_without_unset(plain), buffer, compression="zstd")
    return queue.add(buffer.getvalue(), "parquet")


def _without_unset(table: pa.Table) -> pa.Table:
    """Drop the column `adapter` where no row has one: objects keep the names of their content."""
    is_unset = "adapter" in table.column_names and table["adapter"].null_count == table.num_rows
    return table.drop_columns(["adapter"]) if is_unset else table


def _changed(table: pa.Table, column: str, change: Callable[[str], str | None]) -> pa.Table:
    """Return the table with each text of a column changed, equal texts only once."""
    coded = table[column].combine_chunks().dictionary_encode()
    texts = coded.dictionary.to_pylist()
    fresh = pa.array([None if text is None else change(text) for text in texts], pa.string())
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(at), fresh.take(coded.indices))


def _error_kind(text: str) -> str:
    found = _ERROR_KIND.match(text)
    return found[0] if found else "failed"
