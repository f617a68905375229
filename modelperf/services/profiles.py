"""Distributions of features, predictions and targets: references, windows, and their judgement.

No rows are kept. A reference cuts the values of a feature into cells; a window is the counts in
them, which add up exactly. What is sent is counted before anything is locked.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final, TypeVar

import structlog
from django.db import transaction
from django.utils import timezone
from msgspec import Struct

from modelperf.models import FeatureReference, ModelVersion
from modelperf.models.keys import uuid7
from modelperf.models.profiles import FEATURE_LENGTH
from modelperf.services import metrics_store, profiles_store, profiles_windows
from modelperf.services.database import repeated
from modelperf.services.errors import ConflictError, FieldError, InvalidError, NotFoundError
from modelperf.services.metrics_rows import Subject, is_future
from modelperf.services.profiles_columns import (
    Column,
    Counts,
    as_categories,
    fitted,
    natural,
)
from modelperf.services.profiles_judgement import judge_features, judged_features
from modelperf.services.profiles_store import StoredReference, StoredWindow
from modelperf.services.profiles_windows import Status
from modelperf.stats.profiles import (
    FeatureKind,
    Profile,
    Reference,
    profile_from_counts,
    profile_of,
    reference_from_counts,
    reference_of,
)

__all__ = [
    "FEATURE",
    "Recorded",
    "current_references",
    "judge_features",
    "judged_features",
    "record_profiles",
    "record_reference",
    "record_references",
    "record_window",
    "references_of",
]

log = structlog.get_logger(__name__)
FEATURE: Final = FeatureReference.Role.FEATURE.value
MOST_FEATURES: Final = 2_000
PART_LENGTH: Final = 200
Window = tuple[datetime, datetime]
Made = TypeVar("Made")


class Recorded(Struct, frozen=True):
    """What became of one feature: of its reference, or of its window."""

    feature: str
    role: str
    kind: str
    status: Status
    id: uuid.UUID
    reference_id: uuid.UUID
    n: int
    missing: int
    revision: int | None = None


def record_reference(
    *,
    model: ModelVersion,
    columns: Mapping[str, Column | Counts],
    roles: Mapping[str, str],
    categorical: Collection[str] = (),
    window: Window | None = None,
    by: str,
) -> list[Recorded]:
    """Make the columns what a model version's features are compared with from now on.

    `roles` names those that are no features; numbers named `categorical` count as categories.

    Raises
    ------
    InvalidError
        A column cannot be a reference, or is named and not there.
    """
    references = references_of(columns=columns, roles=roles, categorical=categorical)
    return record_references(model=model, references=references, roles=roles, window=window, by=by)


def references_of(
    *,
    columns: Mapping[str, Column | Counts],
    roles: Mapping[str, str],
    categorical: Collection[str] = (),
) -> dict[str, Reference]:
    """Make references of columns, to be stored later.

    Raises
    ------
    InvalidError
        A column cannot be a reference, or is named and not there.
    """
    if unknown := sorted((set(roles) | set(categorical)) - set(columns)):
        raise InvalidError.field(unknown[0], f"There is no column {unknown[0]}.", type="missing")

    def made(name: str, column: Column | Counts) -> Reference:
        return _reference(name, column, is_categorical=name in categorical)

    return _each(columns, made)


def _reference(name: str, column: Column | Counts, *, is_categorical: bool) -> Reference:
    kind = FeatureKind.CATEGORICAL if is_categorical else None
    if isinstance(column, Counts):
        counts = column.categories() if is_categorical else column.of
        return reference_from_counts(counts, kind, column.missing)
    return reference_of(as_categories(column) if is_categorical else natural(name, column), kind)


def _profile(name: str, column: Column | Counts, reference: Reference) -> Profile:
    is_categorical = reference.kind == FeatureKind.CATEGORICAL
    if isinstance(column, Counts):
        counts = column.categories() if is_categorical else column.of
        return profile_from_counts(counts, reference, column.missing)
    return profile_of(fitted(name, column, is_categorical=is_categorical), reference)


def record_references(
    *,
    model: ModelVersion,
    references: Mapping[str, Reference],
    roles: Mapping[str, str],
    window: Window | None = None,
    by: str,
) -> list[Recorded]:
    """Store references that are made already; those of the same features become history."""
    _check_names(references)
    if window is not None:
        _check_window(window)
    packed = {name: one.to_bytes() for name, one in references.items()}

    @transaction.atomic
    def store() -> list[Recorded]:
        _locked(model)
        held = profiles_store.current_references(model.pk)
        start, end = window or (None, None)
        wanted = [
            StoredReference(
                uuid7(), name, roles.get(name, FEATURE), one.kind, packed[name], one.n, start, end
            )
            for name, one in references.items()
        ]
        new = [one for one in wanted if not _is_same(one, held.get(one.name))]
        if new:
            profiles_store.replace_references(model.pk, new, now=timezone.now(), by=by)
            log.info("references_recorded", model_id=str(model.pk), n=len(new), by=by)
        return [_recorded_reference(one, held, references[one.name].missing) for one in wanted]

    return repeated(store)


def _is_same(new: StoredReference, old: StoredReference | None) -> bool:
    return old is not None and new == old._replace(id=new.id)


def _recorded_reference(
    new: StoredReference, held: Mapping[str, StoredReference], missing: int
) -> Recorded:
    old = held.get(new.name)
    status: Status = "created" if old is None else "replaced"
    if old is not None and _is_same(new, old):
        new, status = old, "unchanged"
    return Recorded(new.name, new.role, str(new.kind), status, new.id, new.id, new.n, missing, None)


def current_references(*, model: ModelVersion) -> dict[str, StoredReference]:
    """Return the references of a model version by feature; what windows are counted in.

    Raises
    ------
    ConflictError
        There are none.
    """
    held = profiles_store.current_references(model.pk)
    if not held:
        raise ConflictError(
            "This model version has no reference yet. Send the data it was trained on first, with"
            " the role reference.",
            references=0,
        )
    return held


def record_window(
    *,
    model: ModelVersion,
    window: Window,
    columns: Mapping[str, Column | Counts],
    part: str | None = None,
    by: str,
) -> list[Recorded]:
    """Count a window's columns in the cells of their references, and store the counts.

    The same window with the same content again is unchanged, other content replaces it. With
    `part` the counts are added to those of the window's other parts, once for each name.

    Raises
    ------
    ConflictError
        The model version has no reference, or the window cannot take the part.
    InvalidError
        A column has no reference, or does not hold what its reference does.
    """
    _check_window(window)
    held = current_references(model=model)
    _refuse_unreferenced(columns, held)

    def made(name: str, column: Column | Counts) -> Profile:
        return _profile(name, column, Reference.from_bytes(held[name].profile))

    profiles = _each(columns, made)
    return _store_window(model=model, window=window, profiles=profiles, held=held, part=part, by=by)


def record_profiles(
    *,
    model: ModelVersion,
    window: Window,
    profiles: Mapping[str, Profile],
    part: str | None = None,
    by: str,
) -> list[Recorded]:
    """Store a window that is counted already, in the cells of the current references."""
    _check_window(window)
    held = current_references(model=model)
    _refuse_unreferenced(profiles, held)
    for name, one in profiles.items():
        if one.reference_digest != Reference.from_bytes(held[name].profile).digest:
            raise _replaced(name)
    return _store_window(model=model, window=window, profiles=profiles, held=held, part=part, by=by)


def _store_window(
    *,
    model: ModelVersion,
    window: Window,
    profiles: Mapping[str, Profile],
    held: Mapping[str, StoredReference],
    part: str | None,
    by: str,
) -> list[Recorded]:
    _check_part(part)

    @transaction.atomic
    def store() -> list[Recorded]:
        subject = _locked(model)
        _refuse_replaced(model, {name: held[name] for name in profiles})
        key = (subject.machine_id, subject.model_type, window[1], window[0], subject.model_id)
        old = profiles_store.windows(key, profiles.keys())
        placed = {
            name: profiles_windows.placed(old.get(name), name, held[name].id, profile, part)
            for name, profile in profiles.items()
        }
        _write(key, subject, placed, by)
        return [
            Recorded(
                name,
                held[name].role,
                held[name].kind,
                status,
                row.id,
                row.reference_id,
                row.n,
                row.missing,
                row.revision,
            )
            for name, (row, status) in placed.items()
        ]

    return repeated(store)


def _write(
    key: profiles_store.Key,
    subject: Subject,
    placed: Mapping[str, tuple[StoredWindow, Status]],
    by: str,
) -> None:
    new = [row for row, status in placed.values() if status == "created"]
    changed = [row for row, status in placed.values() if status in ("revised", "merged")]
    if new:
        now = timezone.now()
        profiles_store.insert_windows(key, subject.model_version, new, now=now, by=by)
    if changed:
        profiles_store.update_windows(subject.machine_id, changed)


def _locked(model: ModelVersion) -> Subject:
    subject = metrics_store.lock_subject(model.pk)
    if subject is None:
        raise NotFoundError("Model not found")
    return subject


def _refuse_unreferenced(features: Collection[str], held: Mapping[str, StoredReference]) -> None:
    _check_names(features)
    errors = [
        FieldError(("body", name), f"{name} has no reference.", "no_reference")
        for name in features
        if name not in held
    ]
    if errors:
        known = ", ".join(sorted(held))
        detail = (
            f"{errors[0].loc[-1]} has no reference. Send one with the role reference, or leave the"
            f" column out. References: {known[:500]}."
        )
        raise InvalidError(detail, errors[:100])


def _refuse_replaced(model: ModelVersion, counted: Mapping[str, StoredReference]) -> None:
    """Refuse counts in cells that are no longer current: they were made without a lock."""
    now = profiles_store.current_references(model.pk)
    for name, one in counted.items():
        if name not in now or now[name].id != one.id:
            raise _replaced(name)


def _replaced(name: str) -> ConflictError:
    return ConflictError(f"The reference of {name} was replaced meanwhile. Send the window again.")


def _each(
    columns: Mapping[str, Column | Counts], made: Callable[[str, Column | Counts], Made]
) -> dict[str, Made]:
    """Make something of each column, and tell every one of which it cannot be made."""
    found: dict[str, Made] = {}
    errors: list[FieldError] = []
    for name, column in columns.items():
        try:
            found[name] = made(name, column)
        except ValueError as error:
            errors.append(FieldError(("body", name), str(error)))
    if errors:
        raise InvalidError(errors[0].msg, errors[:100])
    return found


def _check_names(names: Collection[str]) -> None:
    if not 1 <= len(names) <= MOST_FEATURES:
        raise InvalidError.field("columns", f"1 to {MOST_FEATURES} columns are expected.")
    for name in names:
        if not 1 <= len(name) <= FEATURE_LENGTH or not _is_storable(name):
            msg = f"A column's name has 1 to {FEATURE_LENGTH} characters that can be stored."
            raise InvalidError.field("columns", msg, type="name")


def _check_part(part: str | None) -> None:
    if part is not None and not (1 <= len(part) <= PART_LENGTH and _is_storable(part)):
        raise InvalidError.field("part", f"A part's name has 1 to {PART_LENGTH} characters.")


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_window(window: Window) -> None:
    start, end = window
    if start.tzinfo is None or end.tzinfo is None:
        raise InvalidError.field("window_start", "Times need an offset, such as Z.")
    if end <= start:
        raise InvalidError.field("window_end", "window_end must be after window_start.")
    if is_future(end):
        raise InvalidError.field("window_end", "window_end lies more than ten years in the future.")
