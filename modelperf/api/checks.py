"""Checks of the fleet, and the verdicts that judging has stored, with how they came about."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Literal

from django.db.models import F
from django_filters import Filter
from msgspec import Struct

from modelperf.api.base import Answer, Endpoint, call
from modelperf.api.cursors import BY_ID, Page
from modelperf.api.filters import Filters, SeriesFilters
from modelperf.api.parameters import Cursor, Instant, Limit, ModelType
from modelperf.models import CheckRun, StoredVerdict
from modelperf.services import verdicts

Status = Literal["insufficient_data", "stable", "degraded", "improved", "improvement_lost"]


class CheckAnswer(Struct):
    """A check of the fleet: whom it judged, and its Benjamini-Hochberg step."""

    id: uuid.UUID
    started_at: Instant
    finished_at: Instant
    started_by: str
    model_type: str
    machine_id: uuid.UUID | None
    n_series: int
    n_rejected: int
    n_judged: int
    n_skipped: int
    summary: dict[str, Any]


class CheckQuery(Struct):
    """Which checks are listed."""

    filters: ClassVar[Filters] = SeriesFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class VerdictAnswer(Struct):
    """A stored verdict; `alert` tells the cut-off of p, and why there is an alert or none."""

    id: uuid.UUID
    check_run_id: uuid.UUID | None
    model_id: uuid.UUID
    machine_id: uuid.UUID
    model_type: str
    metric: str
    status: Status
    p_value: float | None
    verdict: dict[str, Any]
    alert: dict[str, Any]
    judged_at: Instant


class ExplainedAnswer(VerdictAnswer):
    """A verdict with its inputs, its rules, and the numbers in between.

    `inputs` are the evaluations at `first_position` to `last_position`; `fold` is the state before
    the last of them. `numbers` has one entry for each: its oriented value, its weight, its
    winsorised deviation, and Z of the split before it.
    """

    machine_name: str
    model_version: int
    why: list[str]
    sentence: str
    is_complete: bool
    is_reproduced: bool
    rules: dict[str, Any]
    fold: dict[str, Any]
    first_position: int
    last_position: int
    inputs: dict[str, Any]
    numbers: dict[str, Any] | None


class VerdictFilters(SeriesFilters):
    """By series, model version, check and status."""

    model_id = Filter()
    check_run_id = Filter()
    status = Filter()


class VerdictQuery(Struct):
    """Which verdicts are listed."""

    filters: ClassVar[Filters] = VerdictFilters
    machine_id: uuid.UUID | None = None
    model_type: ModelType | None = None
    model_id: uuid.UUID | None = None
    check_run_id: uuid.UUID | None = None
    status: Status | None = None
    cursor: Cursor | None = None
    limit: Limit = 100


class Checks(Endpoint):
    """Checks of the fleet."""

    @call(takes=CheckQuery, answers=Page[CheckAnswer], problems=(403,))
    def browse(self, given: CheckQuery) -> Answer:
        """List the checks of the fleet, the newest first."""
        self.refuse_limited("see checks of the fleet")
        return self.page(CheckRun.objects.all(), CheckAnswer, order=BY_ID, given=given)

    @call(answers=CheckAnswer, problems=(403, 404))
    def retrieve(self, id: uuid.UUID) -> CheckRun:
        """Tell about a check; its verdicts are those listed with its `check_run_id`."""
        self.refuse_limited("see checks of the fleet")
        run: CheckRun = self.one(CheckRun.objects.all(), id, "Check not found")
        return run


class Verdicts(Endpoint):
    """Stored verdicts."""

    @call(takes=VerdictQuery, answers=Page[VerdictAnswer])
    def browse(self, given: VerdictQuery) -> Answer:
        """List stored verdicts, the newest first."""
        found = StoredVerdict.objects.within(self.access.machine_ids)
        return self.page(found, VerdictAnswer, order=BY_ID, given=given)

    @call(answers=ExplainedAnswer, problems=(404,))
    def retrieve(self, id: uuid.UUID) -> dict[str, Any]:
        """Explain a verdict: everything it was computed from, so that it can be computed again."""
        found = StoredVerdict.objects.within(self.access.machine_ids).annotate(
            machine_name=F("machine__name"), model_version=F("model__model_version")
        )
        stored: StoredVerdict = self.one(found, id, "Verdict not found")
        explained = verdicts.explain(verdict=stored)
        return {
            **{name: getattr(stored, name) for name in _STORED},
            **explained.document,
            "is_complete": explained.is_complete,
            "is_reproduced": explained.is_reproduced,
        }


_STORED = (*VerdictAnswer.__struct_fields__, "machine_name", "model_version")
