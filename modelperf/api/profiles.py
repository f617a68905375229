"""Distributions: recording references and windows in one of five forms, and listing them."""

from __future__ import annotations

import io
import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from django.db.models import F
from django_filters import Filter
from msgspec import Meta, Struct
from rest_framework.exceptions import UnsupportedMediaType

from modelperf.api.authentication import WRITE
from modelperf.api.base import Answer, Endpoint, call
from modelperf.api.cursors import BY_ID, Order, Page
from modelperf.api.filters import Filters, SeriesFilters
from modelperf.api.parameters import Cursor, Instant, Limit, ModelType, Time, invalid
from modelperf.models import FeatureReference, ModelVersion, WindowProfile
from modelperf.services import profiles, profiles_arrow, profiles_csv
from modelperf.services.errors import FieldError
from modelperf.services.profiles import Recorded
from modelperf.services.profiles_columns import Column, Counts, DataError, of_json
from modelperf.services.profiles_references import Counted, names_in

CSV: Final = "text/csv"
ARROW: Final = {
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.stream": "stream",
    "application/vnd.apache.arrow.file": "file",
}
FORMS: Final = (CSV, *ARROW)
MOST_VALUES: Final = 5_000_000
BY_WINDOW: Final = Order(("-window_end", "-window_start", "-id"), (datetime, datetime, uuid.UUID))
Role = Literal["feature", "prediction", "target"]
FeatureName = Annotated[str, Meta(min_length=1, max_length=200)]
Value = int | float | str | bool | None
Names = Annotated[str | list[str], Meta(description="Separated by commas, or an array in JSON.")]


class Recording(Struct):
    """What is recorded of a model version: its columns, or their counts.

    A body of CSV, Parquet or Arrow holds the columns; `names` then chooses among them. The role
    `reference` is what later windows are compared with; a window needs its start and end.
    """

    model_id: uuid.UUID
    role: Literal["reference", "current"] = "current"
    window_start: Time | None = None
    window_end: Time | None = None
    columns: dict[str, list[Value]] = {}
    counts: dict[str, Counted] = {}
    names: Names = ""
    predictions: Names = ""
    targets: Names = ""
    categorical: Names = ""
    merge: bool = False
    part: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class RecordedFeature(Struct):
    """What became of one feature: of its reference, or of its window."""

    feature: str
    role: Role
    kind: Literal["numeric", "categorical"]
    status: Literal["created", "unchanged", "replaced", "revised", "merged"]
    id: uuid.UUID
    reference_id: uuid.UUID
    n: int
    missing: int
    revision: int | None


class RecordedProfiles(Struct):
    """What became of each column."""

    model_id: uuid.UUID
    role: Literal["reference", "current"]
    window_start: Instant | None
    window_end: Instant | None
    features: list[RecordedFeature]


class ProfileAnswer(Struct):
    """One feature on one window; its counts are kept in the cells of its reference."""

    id: uuid.UUID
    model_id: uuid.UUID
    model_type: str
    machine_id: uuid.UUID
    model_version: int
    feature: str
    role: Role
    kind: Literal["numeric", "categorical"]
    window_start: Instant
    window_end: Instant
    n: int
    missing: int
    reference_id: uuid.UUID
    parts: dict[str, str]
    revision: int
    created_by: str
    created_at: Instant


class ReferenceAnswer(Struct):
    """What a feature is compared with, or was until it was replaced."""

    id: uuid.UUID
    model_id: uuid.UUID
    model_type: str
    machine_id: uuid.UUID
    model_version: int
    feature: str
    role: Role
    kind: Literal["numeric", "categorical"]
    n: int
    window_start: Instant | None
    window_end: Instant | None
    created_by: str
    created_at: Instant
    replaced_by: str | None
    replaced_at: Instant | None


class ProfileFilters(SeriesFilters):
    """By model version, by feature, and by when the windows end."""

    model_id = Filter()
    feature = Filter()
    role = Filter()
    start = Filter("window_end", "gte")
    end = Filter("window_end", "lt")


class ProfileQuery(Struct):
    """Which window profiles are listed; `start` and `end` bound `window_end`."""

    filters: ClassVar[Filters] = ProfileFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    model_id: uuid.UUID | None = None
    feature: FeatureName | None = None
    role: Role | None = None
    start: Time | None = None
    end: Time | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class ReferenceFilters(SeriesFilters):
    """By model version, by feature, and by whether they were replaced."""

    model_id = Filter()
    feature = Filter()
    role = Filter()
    is_current = Filter("replaced_at", "isnull")


class ReferenceQuery(Struct):
    """Which references are listed; replaced ones are history."""

    filters: ClassVar[Filters] = ReferenceFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    model_id: uuid.UUID | None = None
    feature: FeatureName | None = None
    role: Role | None = None
    is_current: bool | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class Profiles(Endpoint):
    """Distributions of features, predictions and targets."""

    @call(
        takes=Recording,
        answers=RecordedProfiles,
        scope=WRITE,
        style="either",
        problems=(404, 409),
        forms=FORMS,
    )
    def record(self, given: Recording) -> RecordedProfiles:
        """Count the columns of a window, or make them the reference of later windows.

        Only counts are kept. The same content again is unchanged; other content for the same
        window replaces it, or with `merge` is added to it as a named `part`, once. Windows are
        counted in the cells of the references, which therefore come first.
        """
        model = self.model(given.model_id)
        columns = self._columns(given)
        stored = (
            self._reference(model, given, columns)
            if given.role == "reference"
            else self._window(model, given, columns)
        )
        features = [RecordedFeature(*(getattr(one, name) for name in _FIELDS)) for one in stored]
        return RecordedProfiles(
            model.pk, given.role, given.window_start, given.window_end, features
        )

    @call(takes=ProfileQuery, answers=Page[ProfileAnswer])
    def browse(self, given: ProfileQuery) -> Answer:
        """List window profiles: a machine's by window, newest first, else as they were recorded."""
        visible = WindowProfile.objects.within(self.access.machine_ids)
        found = visible.annotate(role=F("reference__role"), kind=F("reference__kind"))
        order = BY_WINDOW if given.machine_id else BY_ID
        return self.page(found, ProfileAnswer, order=order, given=given)

    @call(takes=ReferenceQuery, answers=Page[ReferenceAnswer])
    def references(self, given: ReferenceQuery) -> Answer:
        """List references, the newest first, with those that were replaced."""
        found = FeatureReference.objects.within(self.access.machine_ids).annotate(
            feature=F("name"),
            machine_id=F("model__machine_id"),
            model_type=F("model__model_type"),
            model_version=F("model__model_version"),
        )
        return self.page(found, ReferenceAnswer, order=BY_ID, given=given)

    def body(self) -> Any:
        """Return the decoded JSON; the columns of another form are read by themselves."""
        is_read_here = self._form() in FORMS and "Transfer-Encoding" not in self.request.headers
        return None if is_read_here else super().body()

    def _form(self) -> str:
        return (self.request.content_type or "").partition(";")[0].strip().lower()

    def _reference(
        self, model: ModelVersion, given: Recording, columns: dict[str, Column | Counts]
    ) -> list[Recorded]:
        if given.merge or given.part is not None:
            name = "merge" if given.merge else "part"
            raise self.refused(name, "A reference is replaced as a whole, not merged.")
        predictions, targets = names_in(given.predictions), names_in(given.targets)
        if twice := sorted(set(predictions) & set(targets)):
            raise self.refused("targets", f"{twice[0]} is a prediction or a target, not both.")
        if (given.window_start is None) != (given.window_end is None):
            missing = "window_start" if given.window_start is None else "window_end"
            raise self.refused(missing, "A window has a start and an end.")
        roles = dict.fromkeys(predictions, "prediction") | dict.fromkeys(targets, "target")
        start, end = given.window_start, given.window_end
        return profiles.record_reference(
            model=model,
            columns=columns,
            roles=roles,
            categorical=names_in(given.categorical),
            window=(start, end) if start is not None and end is not None else None,
            by=self.actor,
        )

    def _window(
        self, model: ModelVersion, given: Recording, columns: dict[str, Column | Counts]
    ) -> list[Recorded]:
        for name in ("predictions", "targets", "categorical"):
            if getattr(given, name):
                raise self.refused(name, "The reference says what each column is.")
        if given.window_start is None or given.window_end is None:
            missing = "window_start" if given.window_start is None else "window_end"
            raise self.refused(missing, "This is required for the role current.")
        if given.merge != (given.part is not None):
            raise self.refused("part", "merge and part go together: a part has a name of its own.")
        return profiles.record_window(
            model=model,
            window=(given.window_start, given.window_end),
            columns=columns,
            part=given.part,
            by=self.actor,
        )

    def _columns(self, given: Recording) -> dict[str, Column | Counts]:
        """Return what the body holds, whatever its form."""
        form = self._form()
        try:
            return self._read(form, given) if form in FORMS else self._json(given)
        except DataError as error:
            raise invalid([FieldError(("body",), str(error), "data")]) from None

    def _json(self, given: Recording) -> dict[str, Column | Counts]:
        if bool(given.columns) == bool(given.counts):
            raise self.refused("columns", "Send either columns or counts.")
        if given.names:
            raise self.refused("names", "names chooses columns of CSV, Parquet and Arrow bodies.")
        if given.counts:
            return {name: one.read(name) for name, one in given.counts.items()}
        if len({len(values) for values in given.columns.values()}) > 1:
            raise self.refused("columns", "The columns of a window have the same length.")
        return {name: of_json(name, values) for name, values in given.columns.items()}

    def _read(self, form: str, given: Recording) -> dict[str, Column | Counts]:
        body = self.request._request.body  # noqa: SLF001 -- REST framework's own name
        wanted = names_in(given.names)
        if form == CSV:
            return dict(_of_csv(body, wanted))
        if not profiles_arrow.IS_INSTALLED:
            raise UnsupportedMediaType(form, detail=profiles_arrow.HOW_TO_INSTALL)
        return dict(_of_arrow(body, ARROW[form], wanted))


_FIELDS: Final = RecordedFeature.__struct_fields__


def _of_csv(body: bytes, wanted: list[str]) -> dict[str, Any]:
    stream = io.BytesIO(body)
    names, start = profiles_csv.header(stream)
    _expect(wanted, names)
    return profiles_csv.read(stream, start, len(body), names=names, wanted=wanted or names)


def _of_arrow(body: bytes, form: str, wanted: list[str]) -> dict[str, Any]:
    pieces: dict[str, list[Any]] = {}
    for batch in profiles_arrow.body_batches(body, form, MOST_VALUES, wanted):
        names = profiles_arrow.names(batch)
        for name, column in profiles_arrow.columns(batch, wanted or names).items():
            pieces.setdefault(name, []).append(column)
    return {name: np.concatenate(each) for name, each in pieces.items()}


def _expect(wanted: list[str], names: list[str]) -> None:
    if missing := [name for name in wanted if name not in names]:
        raise DataError(f"There is no column {missing[0]}.")
