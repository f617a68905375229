"""The statements by which evaluations reach their table.

Rows are always written in the order of their natural key, so that two batches never wait for each
other in a circle. The series' rows in `model_series` are locked first: every change of a series'
evaluations, its latest row, its drift state and its alerts happens under that lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import psycopg
from django.db import connection, transaction
from django.db.utils import IntegrityError

from modelperf.services.database import execute
from modelperf.services.metrics_rows import VALUES, Key, Rank, Row, Subject

TABLE: Final = "model_performance_metrics"
LATEST: Final = "model_latest_performance"
COLUMNS: Final = ", ".join(Row._fields)
COPY: Final = f"COPY {TABLE} ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
KEY: Final = "machine_id, model_type, evaluation_end, evaluation_start, model_id"
_DERIVED: Final = (
    "r_squared",
    "rmse",
    "mae",
    "mape",
    "precision_score",
    "recall_score",
    "f1_score",
)
_REVISED: Final = (*VALUES, *_DERIVED, "data_completeness")
TYPES: Final = (
    *("uuid", "uuid", "uuid", "text", "int4"),
    *("timestamptz", "timestamptz", "timestamptz", "int8", "jsonb"),
    *("float8",) * 7,
    *("int8",) * 4,
    *("float8", "text", "jsonb", "float8", "text", "timestamptz", "int4"),
    *("bool", "float8", "float8"),
)
_JSON_COLUMNS: Final = (Row._fields.index("metrics"), Row._fields.index("metadata"))
_JSONB_VERSION: Final = b"\x01"

SUBJECT_COLUMNS: Final = """
    v.id, v.machine_id, v.model_type, v.model_version, v.is_active,
    m.name, m.is_active, m.data_interval_seconds
"""


def subjects(model_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Subject]:
    """Return the model versions by id, with their machines; unknown ids are absent."""
    found = execute(
        f"""
        SELECT {SUBJECT_COLUMNS}, judged.last_evaluation_end, judged.last_evaluation_start
        FROM model_versions v
        JOIN machines m ON m.id = v.machine_id
        LEFT JOIN LATERAL (
            SELECT d.last_evaluation_end, d.last_evaluation_start
            FROM model_versions n JOIN model_drift_states d ON d.model_id = n.id
            WHERE n.machine_id = v.machine_id AND n.model_type = v.model_type
                AND n.model_version >= v.model_version AND NOT d.is_stale
            ORDER BY d.last_evaluation_end DESC, d.last_evaluation_start DESC
            LIMIT 1
        ) AS judged ON true
        WHERE v.id = ANY(%b)
        """,
        [list(model_ids)],
        binary=True,
    )
    return {row[0]: Subject._make(row) for row in found.fetchall()}


def lock_subject(model_id: uuid.UUID) -> Subject | None:
    """Lock the series of a model version and return the version, or None if it is unknown."""
    found = execute(
        f"""
        SELECT s.check_id, {SUBJECT_COLUMNS}
        FROM model_versions v
        JOIN machines m ON m.id = v.machine_id
        JOIN model_series s ON s.machine_id = v.machine_id AND s.model_type = v.model_type
        WHERE v.id = %s
        FOR UPDATE OF s
        """,
        [model_id],
    ).fetchone()
    if found is None:
        return None
    if found[0] is not None:
        take_from_check([model_id])
    return Subject(*found[1:])


def machine_exists(machine_id: uuid.UUID) -> bool:
    """Whether a machine is registered."""
    found = execute("SELECT 1 FROM machines WHERE id = %s", [machine_id])
    return found.fetchone() is not None


def lock_series(model_ids: Collection[uuid.UUID]) -> None:
    """Lock the series of model versions, in the one order in which everybody locks them."""
    found = execute(
        """
        SELECT count(check_id) FROM (
            SELECT s.check_id
            FROM model_series s JOIN model_versions v USING (machine_id, model_type)
            WHERE v.id = ANY(%b)
            ORDER BY s.machine_id, s.model_type
            FOR UPDATE OF s
        ) AS locked
        """,
        [list(model_ids)],
    ).fetchone()
    if found and found[0]:
        take_from_check(model_ids)


def take_from_check(model_ids: Collection[uuid.UUID]) -> None:
    """Take locked series away from a check that runs: what it has read of them is changing."""
    execute(
        """
        UPDATE model_series s SET check_id = NULL
        FROM model_versions v
        WHERE v.id = ANY(%b) AND s.check_id IS NOT NULL
            AND s.machine_id = v.machine_id AND s.model_type = v.model_type
        """,
        [list(model_ids)],
    )


def insert(row: Row, *, beside: tuple[str, list[Any]] = ("SELECT 1", [])) -> bool:
    """Store one evaluation, and its latest row where it is the newest; False if it was there.

    `beside` is a statement and its parameters that goes to the server with it, in one round trip;
    it finds the row as `stored` where it is new.
    """
    statement, params = beside
    sql = _INSERT.format(beside=statement)
    stored = execute(sql, [*_text_params(row), *params]).fetchone()
    return stored is not None and bool(stored[0])


def copy(rows: Iterable[Row]) -> bool:
    """Store new evaluations by binary COPY; False, with nothing stored, where one was there.

    They come sorted by key, or two batches could wait for each other.
    """
    try:
        with transaction.atomic():
            _copy_into(TABLE, rows)
    except IntegrityError as error:
        if not isinstance(error.__cause__, psycopg.errors.UniqueViolation):
            raise
        return False
    return True


def copy_missing(rows: Sequence[Row]) -> set[uuid.UUID]:
    """Store those of the evaluations that are new and return their ids."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS incoming_metrics (LIKE {TABLE})"
            " ON COMMIT DROP; TRUNCATE incoming_metrics"
        )
    _copy_into("incoming_metrics", rows)
    stored = execute(
        f"INSERT INTO {TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM incoming_metrics ORDER BY {KEY}"
        f" ON CONFLICT ({KEY}) DO NOTHING RETURNING id"
    )
    return {found for (found,) in stored}


def _copy_into(table: str, rows: Iterable[Row]) -> None:
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)
    with (
        connection.wrap_database_errors,
        cursor.copy(COPY.replace(TABLE, table, 1)) as stream,
    ):
        stream.set_types(TYPES)
        for row in rows:
            stream.write_row(binary_params(row))


def existing(rows: Sequence[Row]) -> dict[Key, dict[str, Any]]:
    """Return what is stored under the rows' natural keys: id, revision and values, by key."""
    keys = [
        (row.machine_id, row.model_type, row.evaluation_end, row.evaluation_start, row.model_id)
        for row in rows
    ]
    wanted = ("id", "revision", *_REVISED)
    found = execute(
        f"""
        SELECT {", ".join(f"e.{name}" for name in (*KEY.split(", "), *wanted))}
        FROM {TABLE} e
        JOIN unnest(%b::uuid[], %b::text[], %b::timestamptz[], %b::timestamptz[], %b::uuid[])
            AS wanted ({KEY}) USING ({KEY})
        """,
        _columns(keys),
    )
    return {
        (machine_id.int, model_type, end, start, model_id.int): dict(zip(wanted, rest, strict=True))
        for machine_id, model_type, end, start, model_id, *rest in found
    }


def revise(row: Row, *, metric_id: uuid.UUID, old: dict[str, Any]) -> None:
    """Replace an evaluation's values and keep the old ones as a revision."""
    execute(
        f"""
        INSERT INTO model_metric_revisions
            (id, metric_id, machine_id, revision, values, replaced_at, replaced_by)
        SELECT %s, e.id, e.machine_id, e.revision,
            to_jsonb(e) - ARRAY['id', 'machine_id', 'revision'], %s, %s
        FROM {TABLE} e WHERE e.id = %s AND e.machine_id = %s
        """,
        [row.id, row.created_at, row.created_by, metric_id, row.machine_id],
    )
    placed = dict(zip(Row._fields, _text_params(row), strict=True))
    execute(
        f"""
        UPDATE {TABLE} SET {", ".join(f"{name} = %s" for name in _REVISED)}, revision = %s,
            drift_detected = false, drift_score = NULL, drift_threshold = NULL
        WHERE id = %s AND machine_id = %s
        """,
        [*[placed[name] for name in _REVISED], old["revision"] + 1, metric_id, row.machine_id],
    )


def stale_statement(ranks: Mapping[Subject, Rank]) -> tuple[str, list[Any]]:
    """Return the statement that marks drift states which have counted an evaluation's place.

    Those of later versions that began after it have: in the noise which they began with.
    """
    params = [
        [subject.model_id for subject in ranks],
        [end for end, _ in ranks.values()],
        [start for _, start in ranks.values()],
    ]
    return _MARK_STALE, params


def mark_stale(ranks: Mapping[Subject, Rank]) -> None:
    """Mark drift states whose evaluations changed, so that the next judgement starts over."""
    execute(*stale_statement(ranks))


_MARK_STALE: Final = """
    UPDATE model_drift_states AS d SET is_stale = true
    FROM unnest(%b::uuid[], %b::timestamptz[], %b::timestamptz[])
        AS changed (model_id, evaluation_end, evaluation_start)
    JOIN model_versions c ON c.id = changed.model_id
    JOIN model_versions v ON v.machine_id = c.machine_id AND v.model_type = c.model_type
        AND v.model_version >= c.model_version
    WHERE d.model_id = v.id AND NOT d.is_stale
        AND (d.last_evaluation_end, d.last_evaluation_start)
            >= (changed.evaluation_end, changed.evaluation_start)
        AND (v.id = c.id OR NOT EXISTS (
            SELECT FROM model_performance_metrics e
            WHERE e.machine_id = v.machine_id AND e.model_type = v.model_type
                AND e.model_id = v.id AND (e.evaluation_end, e.evaluation_start)
                    <= (changed.evaluation_end, changed.evaluation_start)))
"""


def offer_latest(rows: Sequence[Row]) -> None:
    """Make rows just stored the latest of their series where they are the newest."""
    execute(
        f"""
        INSERT INTO {LATEST} AS l ({COLUMNS})
        SELECT {", ".join(f"e.{name}" for name in Row._fields)}
        FROM unnest(%b::uuid[], %b::uuid[]) AS offered (id, machine_id)
        -- One look-up a row: joined as a whole, a large table would be read from end to end.
        CROSS JOIN LATERAL (
            SELECT * FROM {TABLE} e
            WHERE e.id = offered.id AND e.machine_id = offered.machine_id
            LIMIT 1
        ) AS e
        ORDER BY e.machine_id, e.model_type
        {_TAKE_IF_NEWER}
        """,
        [[row.id for row in rows], [row.machine_id for row in rows]],
    )


def refresh_latest(series: Iterable[tuple[uuid.UUID, str]]) -> None:
    """Recompute the latest rows of series whose evaluations or active version changed."""
    machine_ids, model_types = _columns(sorted(set(series)))
    execute(
        f"""
        WITH wanted AS (
            SELECT * FROM unnest(%b::uuid[], %b::text[]) AS w (machine_id, model_type)
        ), newest AS (
            SELECT e.* FROM wanted CROSS JOIN LATERAL (
                SELECT {", ".join(f"e.{name}" for name in Row._fields)}
                FROM {TABLE} e JOIN model_versions v ON v.id = e.model_id
                WHERE e.machine_id = wanted.machine_id AND e.model_type = wanted.model_type
                ORDER BY e.evaluation_end DESC, e.evaluation_start DESC,
                    v.is_active DESC, e.model_version DESC
                LIMIT 1
            ) AS e
        ), gone AS (
            DELETE FROM {LATEST} l USING wanted
            WHERE l.machine_id = wanted.machine_id AND l.model_type = wanted.model_type
                AND NOT EXISTS (
                    SELECT 1 FROM newest n
                    WHERE n.machine_id = l.machine_id AND n.model_type = l.model_type
                )
        )
        INSERT INTO {LATEST} ({COLUMNS}) SELECT {COLUMNS} FROM newest
        ON CONFLICT (machine_id, model_type) DO UPDATE SET {_SET_EXCLUDED}
        """,
        [machine_ids, model_types],
    )


def write_verdicts(
    verdicts: Sequence[tuple[uuid.UUID, uuid.UUID, bool, float | None, float]],
) -> None:
    """Write (metric id, machine id, detected, score, threshold) to the rows and latest rows."""
    if not verdicts:
        return
    execute(_WRITE_VERDICTS, _columns(verdicts))


_VERDICT_WRITTEN: Final = """
    UPDATE {table} AS e SET drift_detected = judged.detected,
        drift_score = judged.score, drift_threshold = judged.threshold
    FROM judged
    WHERE e.id = judged.id AND e.machine_id = judged.machine_id
        AND (e.drift_detected, e.drift_score, e.drift_threshold)
            IS DISTINCT FROM (judged.detected, judged.score, judged.threshold)
"""
_WRITE_VERDICTS: Final = f"""
    WITH judged AS (
        SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::bool[], %b::float8[], %b::float8[])
            AS judged (id, machine_id, detected, score, threshold)
    ), rows AS ({_VERDICT_WRITTEN.format(table=TABLE)})
    {_VERDICT_WRITTEN.format(table=LATEST)}
"""


def delete(ids: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
    """Delete evaluations by (id, machine_id), their revisions with them."""
    execute(
        f"""
        DELETE FROM {TABLE} e USING unnest(%b::uuid[], %b::uuid[]) AS gone (id, machine_id)
        WHERE e.id = gone.id AND e.machine_id = gone.machine_id
        """,
        _columns(ids),
    )


def _columns(tuples: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*tuples, strict=True)]


def binary_params(row: Row) -> list[Any]:
    """Return a row's values as `write_row` takes them."""
    params: list[Any] = list(row)
    for place in _JSON_COLUMNS:
        params[place] = _Json(params[place])
    return params


def _text_params(row: Row) -> list[Any]:
    params: list[Any] = list(row)
    for place in _JSON_COLUMNS:
        params[place] = params[place].decode()
    return params


class _Json(bytes):
    """JSON that is encoded already."""


class _JsonDumper(psycopg.adapt.Dumper):
    """Sends encoded JSON as jsonb: psycopg's own would encode it once more."""

    format = psycopg.pq.Format.BINARY
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: _Json) -> bytes:
        """Return the wire form: a version byte, then the text."""
        return _JSONB_VERSION + obj


psycopg.adapters.register_dumper(_Json, _JsonDumper)

_SET_EXCLUDED: Final = ", ".join(
    f"{name} = EXCLUDED.{name}" for name in Row._fields if name not in ("machine_id", "model_type")
)
_TAKE_IF_NEWER: Final = f"""
    ON CONFLICT (machine_id, model_type) DO UPDATE SET {_SET_EXCLUDED}
    WHERE (EXCLUDED.evaluation_end, EXCLUDED.evaluation_start)
            > (l.evaluation_end, l.evaluation_start)
        OR (EXCLUDED.evaluation_end, EXCLUDED.evaluation_start)
            = (l.evaluation_end, l.evaluation_start)
        AND ((SELECT is_active FROM model_versions WHERE id = EXCLUDED.model_id),
            EXCLUDED.model_version)
            > ((SELECT is_active FROM model_versions WHERE id = l.model_id), l.model_version)
"""
_INSERT: Final = f"""
    WITH stored AS (
        INSERT INTO {TABLE} ({COLUMNS}) VALUES ({", ".join(["%s"] * len(Row._fields))})
        ON CONFLICT ({KEY}) DO NOTHING RETURNING {COLUMNS}
    ), offered AS (
        INSERT INTO {LATEST} AS l ({COLUMNS}) SELECT {COLUMNS} FROM stored
        {_TAKE_IF_NEWER}
    ), beside AS ({{beside}})
    SELECT count(*) FROM stored
"""
