"""Parquet and Arrow as columns, where pyarrow is installed: it is an extra.

Nothing here needs Django: workers of a cluster import it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from modelperf.services.profiles_columns import Categories, Column, DataError, texts
from modelperf.stats.labels import label

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:  # pragma: no cover -- the tests have it
    pa = pq = None

IS_INSTALLED: Final = pa is not None
HOW_TO_INSTALL: Final = (
    "Parquet and Arrow need pyarrow, which is not installed: .venv/bin/pip install"
    " 'pyarrow>=18'. CSV and JSON always work."
)
CHUNK_CELLS: Final = 1 << 19
# Column chunks are read bit by bit: a row group may be the whole file.
READ_BYTES: Final = 1 << 20
MOST_BYTES: Final = 256 << 20  # of a body when it is unpacked
FEWEST_ROWS: Final = 64


def rows_of_chunk(n_columns: int) -> int:
    """Return how many rows of so many columns are held at once."""
    return max(1024, min(1 << 16, CHUNK_CELLS // max(1, n_columns)))


def body_batches(
    body: bytes, form: str, most_cells: int, wanted: Sequence[str] = ()
) -> Iterator[Any]:
    """Read the wanted columns of a body batch by batch, or all; `form` is parquet, stream or file.

    A small body may hold a great many rows, or very long text: it is given up where they pass a
    limit.
    """
    cells = 0
    try:
        for batch in _opened(pa.BufferReader(body), form, wanted):
            cells += batch.num_rows * batch.num_columns
            if cells > most_cells:
                raise DataError(
                    f"The body holds more than {most_cells:,} values. Send it in parts."
                )
            _expect_small(batch.nbytes)
            yield batch
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"The body cannot be read: {error}") from None


def _opened(source: Any, form: str, wanted: Sequence[str]) -> Iterator[Any]:
    if form == "parquet":
        return _parquet(source, wanted)
    opened = pa.ipc.open_stream if form == "stream" else pa.ipc.open_file
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if wanted:
        held = _chosen(opened(source).schema, wanted)
        options.included_fields = [number for number, one in enumerate(held) if one in wanted]
        source.seek(0)
    reader = opened(source, options=options)
    if form == "stream":
        return iter(reader)
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _parquet(source: Any, wanted: Sequence[str]) -> Iterator[Any]:
    """Open Parquet whose wanted columns are small when unpacked, text by its dictionary."""
    with pq.ParquetFile(source) as file:
        schema, metadata = file.schema_arrow, file.metadata
    held = _chosen(schema, wanted)
    chosen = list(wanted or held)
    rows, unpacked = rows_of_chunk(len(chosen)), 0
    for chunk in _chunks(metadata, chosen):
        unpacked += chunk.total_uncompressed_size
        _expect_small(unpacked)
        if "DELTA_BYTE_ARRAY" in chunk.encodings:  # where a value may repeat the one before
            rows = min(rows, MOST_BYTES // max(1, chunk.total_uncompressed_size))
    if rows < FEWEST_ROWS:
        raise DataError("Text is packed as DELTA_BYTE_ARRAY in too large row groups.")
    text = [field.name for field in schema if is_text(field.type) and field.name in chosen]
    source.seek(0)
    file = pq.ParquetFile(source, read_dictionary=text)
    batches: Iterator[Any] = file.iter_batches(batch_size=rows, columns=chosen, use_threads=False)
    return batches


def _chunks(metadata: Any, chosen: Sequence[str]) -> Iterator[Any]:
    """Return the column chunks of columns, those within nested ones too."""
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            path = chunk.path_in_schema
            if any(path == name or path.startswith(f"{name}.") for name in chosen):
                yield chunk


def _chosen(schema: Any, wanted: Sequence[str]) -> list[str]:
    held = names(schema)
    if missing := [name for name in wanted if name not in held]:
        raise DataError(f"There is no column {missing[0]}.")
    return held


def _expect_small(n_bytes: int) -> None:
    if n_bytes > MOST_BYTES:
        raise DataError(
            f"The body holds more than {MOST_BYTES >> 20} MiB when it is unpacked. Send it in"
            " parts, or name the columns that are wanted."
        )


def columns(found: Any, wanted: Sequence[str]) -> dict[str, Column]:
    """Return columns of a table or a batch."""
    return {name: column(name, found.column(found.schema.get_field_index(name))) for name in wanted}


def names(found: Any) -> list[str]:
    """Return the names of the columns of a schema, or of what has one."""
    held: list[str] = list(getattr(found, "schema", found).names)
    if len(set(held)) < len(held):
        raise DataError("Two columns have the same name.")
    return held


def column(name: str, values: Any) -> Column:
    """Return an Arrow array as numbers or categories."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        if not is_text(kind):
            values = values.cast(kind)
    if is_numeric(kind):
        found = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.asarray(found, dtype=np.float64)
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if pa.types.is_boolean(kind):
        return texts(None if one is None else str(one).lower() for one in values.to_pylist())
    if is_text(kind):
        return _labels(values)
    raise DataError(f"{name} is of the type {kind}: numbers, text or truth values are profiled.")


def _labels(values: Any) -> Categories:
    """Return text with one object a label, of bounded length: rows only refer to it."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    known = (label(one.as_py()) if one.is_valid else None for one in values.dictionary)
    labels = texts([*known, None])
    codes = values.indices.fill_null(len(labels) - 1)
    found: Categories = labels[codes.to_numpy(zero_copy_only=False)]
    return found


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_profiled(kind: Any) -> bool:
    """Whether columns of an Arrow type can be profiled."""
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return is_numeric(kind) or is_text(held) or bool(pa.types.is_boolean(held))


def batches(
    path: str, groups: Sequence[int], wanted: Sequence[str], text: Sequence[str]
) -> Iterator[dict[str, Column]]:
    """Read row groups of a Parquet file piece by piece, text by its dictionary."""
    try:
        with pq.ParquetFile(path, buffer_size=READ_BYTES, read_dictionary=list(text)) as file:
            read = file.iter_batches(
                batch_size=rows_of_chunk(len(wanted)),
                row_groups=list(groups),
                columns=list(wanted),
                use_threads=False,
            )
            for batch in read:
                yield columns(batch, wanted)
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def outline(path: str) -> tuple[tuple[str, ...], tuple[str, ...], list[int]]:
    """Return a Parquet file's columns that can be profiled, those with text, and rows by group."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            schema = file.schema_arrow
            fields = [schema.field(name) for name in names(file.schema_arrow)]
            known = [field for field in fields if is_profiled(field.type)]
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    text = [field.name for field in known if not is_numeric(field.type)]
    return tuple(field.name for field in known), tuple(text), groups


def is_numeric(kind: Any) -> bool:
    """Whether an Arrow type is of numbers."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
