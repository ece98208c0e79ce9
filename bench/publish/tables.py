"""The tables of a publication: the columns of `bench.store.schema` with nothing private in them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.errors import UserError
from bench.publish.pictures import Published, UploadQueue
from bench.publish.redaction import Privacy
from bench.store import schema
from bench.store.run_store import RunStore

PUBLISHED_RESULTS = schema.RESULTS.append(pa.field("thumbnail", pa.string()))
# leave-one-out values name prompts, and hashes of inputs are of use to the run directory alone
UNPUBLISHED = {"n", "leave_one_out", "inputs"}
PUBLISHED_SCORES = pa.schema([f for f in schema.SCORES if f.name not in UNPUBLISHED])
_MAX_ROWS = 2_000_000  # of one file
_PROMPTS = {"base_prompt", "upgraded_prompt", "negative_prompt"}
# names, ids and closed words: they stand in other tables too, so they stay as they are
_NAMES = {
    *("trial_id", "plugin", "kind", "stack", "method", "preset", "stage1_mode", "case_id"),
    *("status", "image_sha256", "origin", "metric", "better", "level", "formula", "module"),
    *("function_metric", "function_better", "gain_reference", "gain_metric"),
}
# pictures, which are named anew
_PICTURES = {"image", "thumbnail", "condition_path", "conditions"}
_ERROR_KIND = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Warning)\b")


@dataclass(frozen=True)
class RunTablesOnDisk:
    """A run's tables as they are in its folder."""

    trials: pa.Table
    results: pa.Table
    scores: pa.Table
    summary: pa.Table
    compatibility: pa.Table
    audit: pa.Table


def read_tables(store: RunStore, problems: list[str]) -> RunTablesOnDisk:
    """Return all tables with the columns to publish; what cannot be read is a problem."""
    folder, scored = store.folder, sorted((store.folder / "scores").glob("*.parquet"))

    def read(paths: Sequence[Path], columns: pa.Schema) -> pa.Table:
        parts = [part for path in paths if (part := _read(path, columns, problems)) is not None]
        return pa.concat_tables([columns.empty_table(), *parts])

    try:
        found = store.results()
        results = pa.Table.from_pandas(found, schema=schema.RESULTS, preserve_index=False)
    except (UserError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        problems.append(f"results/: {error}")
        results = schema.RESULTS.empty_table()
    tables = store.tables_dir
    return RunTablesOnDisk(
        trials=read([folder / "trials.parquet"], schema.TRIALS),
        results=results,
        scores=read(scored, PUBLISHED_SCORES),
        summary=read([tables / "summary.parquet"], schema.SUMMARY),
        compatibility=read([tables / "compatibility.parquet"], schema.COMPATIBILITY),
        audit=read(_present(folder / "audit.parquet"), schema.AUDIT),
    )


def _present(path: Path) -> list[Path]:
    return [path] if path.is_file() else []


def _read(path: Path, columns: pa.Schema, problems: list[str]) -> pa.Table | None:
    name = path.relative_to(path.parents[1]) if path.parent.name != "" else path
    try:
        table = pq.ParquetFile(path).read()
        return pa.table(
            [
                table[field.name].cast(field.type)
                if field.name in table.column_names
                else pa.nulls(table.num_rows, field.type)
                for field in columns
            ],
            schema=columns,
        )
    except FileNotFoundError:
        problems.append(f"{name} is missing: run `xbench report RUN`, or finish the run")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        problems.append(f"{name} cannot be read: {str(error).splitlines()[0]}")
    return None


def kept_rows(table: pa.Table, *, plugins: Collection[str], cases: Collection[str]) -> pa.Table:
    """The rows of other plugins and other cases."""
    if plugins:
        table = table.filter(~pc.field("plugin").isin(sorted(plugins)))
    if cases and "case_id" in table.column_names:
        table = table.filter(~pc.field("case_id").isin(sorted(cases)))
    return table


def of_trials(table: pa.Table, trial_ids: pa.ChunkedArray) -> pa.Table:
    """The rows of some trials."""
    return table.filter(pc.field("trial_id").isin(trial_ids.to_pylist()))


def public_trials(
    table: pa.Table, conditions: Mapping[str, Published], privacy: Privacy
) -> pa.Table:
    """The plan; condition images are named by their objects, null where there is none."""

    def one(path: str) -> str | None:
        found = conditions.get(path)
        return found.thumbnail if found else None

    def several(text: str) -> str:
        named = json.loads(text)
        return json.dumps({plugin: name for plugin, path in named.items() if (name := one(path))})

    table = public_table(table, privacy)
    table = _changed(table, "condition_path", one)
    return _changed(table, "conditions", several)


def public_results(
    table: pa.Table, pictures: Mapping[str, Published], privacy: Privacy
) -> pa.Table:
    """Results with the objects of their pictures; of an error only its kind is told."""
    found = [pictures.get(trial) for trial in table["trial_id"].to_pylist()]
    table = _changed(public_table(table, privacy), "error", _error_kind)
    names = pa.array([picture and picture.image for picture in found], pa.string())
    table = table.set_column(table.schema.get_field_index("image"), "image", names)
    small = pa.array([picture and picture.thumbnail for picture in found], pa.string())
    return table.append_column("thumbnail", small).cast(PUBLISHED_RESULTS)


def public_table(table: pa.Table, privacy: Privacy) -> pa.Table:
    """Prompts without secrets, all other text as technical text; names stay."""
    for field in table.schema:
        if field.type != pa.string() or field.name in _NAMES | _PICTURES | {"error"}:
            continue
        change = privacy.content if field.name in _PROMPTS else privacy.technical
        table = _changed(table, field.name, change)
    return table


def private_names(table: pa.Table, privacy: Privacy) -> list[str]:
    """Columns of names that hold something private: they cannot be changed, only refused."""
    return [
        name
        for name in table.column_names
        if name in _NAMES
        and any(privacy.is_private(v) for v in table[name].unique().to_pylist() if v)
    ]


def spool_table(table: pa.Table, spool: UploadQueue) -> list[str]:
    """Put a table into the spool; the names of its objects."""
    starts = range(0, max(table.num_rows, 1), _MAX_ROWS)
    return [_spooled(table.slice(start, _MAX_ROWS), spool) for start in starts]


def _spooled(table: pa.Table, spool: UploadQueue) -> str:
    buffer = io.BytesIO()
    plain = table.combine_chunks().replace_schema_metadata(None)
    pq.write_table(plain, buffer, compression="zstd")
    return spool.add(buffer.getvalue(), "parquet")


def _changed(table: pa.Table, column: str, change: Callable[[str], str | None]) -> pa.Table:
    """The table with every text of a column changed, each different text once."""
    coded = table[column].combine_chunks().dictionary_encode()
    texts = coded.dictionary.to_pylist()
    fresh = pa.array([None if text is None else change(text) for text in texts], pa.string())
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(at), fresh.take(coded.indices))


def _error_kind(text: str) -> str:
    found = _ERROR_KIND.match(text)
    return found[0] if found else "failed"
