"""The statements by which references and window profiles reach their tables, and are read."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from modelperf.services.database import execute

Key = tuple[uuid.UUID, str, datetime, datetime, uuid.UUID]


class StoredReference(NamedTuple):
    """A reference as it is stored."""

    id: uuid.UUID
    name: str
    role: str
    kind: str
    profile: bytes
    n: int
    window_start: datetime | None
    window_end: datetime | None


class StoredWindow(NamedTuple):
    """A feature's window as it is stored, or is to be."""

    id: uuid.UUID
    feature: str
    reference_id: uuid.UUID
    n: int
    missing: int
    profile: bytes
    parts: dict[str, str]
    revision: int


_REFERENCE: Final = ", ".join(StoredReference._fields)
_WINDOW: Final = ", ".join(StoredWindow._fields)


def current_references(model_id: uuid.UUID) -> dict[str, StoredReference]:
    """Return the current references of a model version by feature."""
    found = execute(
        f"""
        SELECT {_REFERENCE} FROM model_feature_references
        WHERE model_id = %s AND replaced_at IS NULL ORDER BY name
        """,
        [model_id],
        binary=True,
    )
    return {row[1]: StoredReference._make(row) for row in found}


def replace_references(
    model_id: uuid.UUID, new: Sequence[StoredReference], *, now: datetime, by: str
) -> None:
    """Let references take the place of those of the same features, which stay as history."""
    execute(
        """
        UPDATE model_feature_references SET replaced_at = %s, replaced_by = %s
        WHERE model_id = %s AND name = ANY(%s) AND replaced_at IS NULL
        """,
        [now, by, model_id, [one.name for one in new]],
    )
    execute(
        f"""
        INSERT INTO model_feature_references ({_REFERENCE}, model_id, created_at, created_by)
        SELECT new.*, %b::uuid, %b::timestamptz, %b::text
        FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::int8[],
            %b::timestamptz[], %b::timestamptz[]) AS new
        """,
        [model_id, now, by, *_columns(new)],
    )


def windows(key: Key, features: Collection[str]) -> dict[str, StoredWindow]:
    """Return what is stored of a window, by feature.

    `key` is machine, type, end, start and model, as in the table's own key.
    """
    found = execute(
        f"""
        SELECT {_WINDOW} FROM model_profiles
        WHERE machine_id = %s AND model_type = %s AND window_end = %s AND window_start = %s
            AND model_id = %s AND feature = ANY(%s)
        """,
        [*key, list(features)],
        binary=True,
    )
    return {row[1]: StoredWindow._make(row) for row in found}


def insert_windows(
    key: Key,
    version: int,
    new: Sequence[StoredWindow],
    *,
    now: datetime,
    by: str,
) -> None:
    """Store a window of features that had none."""
    execute(
        f"""
        INSERT INTO model_profiles (machine_id, model_type, window_end, window_start, model_id,
            model_version, created_at, created_by, {_WINDOW})
        SELECT %b::uuid, %b::text, %b::timestamptz, %b::timestamptz, %b::uuid, %b::int4,
            %b::timestamptz, %b::text, {_SET}
        FROM {_UNNESTED}
        """,
        [*key, version, now, by, *_window_columns(new)],
    )


def update_windows(machine_id: uuid.UUID, changed: Sequence[StoredWindow]) -> None:
    """Replace what is stored of a window."""
    execute(
        f"""
        UPDATE model_profiles AS p SET reference_id = new.reference_id, n = new.n,
            missing = new.missing, profile = new.profile, parts = new.parts::jsonb,
            revision = new.revision
        FROM {_UNNESTED} WHERE p.id = new.id AND p.machine_id = %b::uuid
        """,
        [*_window_columns(changed), machine_id],
    )


_SET: Final = _WINDOW.replace("parts", "parts::jsonb")
_UNNESTED: Final = f"""
    unnest(%b::uuid[], %b::text[], %b::uuid[], %b::int8[], %b::int8[], %b::bytea[], %b::text[],
        %b::int4[]) AS new ({_WINDOW})
"""


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _window_columns(rows: Sequence[StoredWindow]) -> list[list[Any]]:
    encoded = [msgspec.json.encode(row.parts).decode() for row in rows]
    columns = _columns(rows)
    columns[StoredWindow._fields.index("parts")] = encoded
    return columns
