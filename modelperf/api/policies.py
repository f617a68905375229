"""Policies: the settings of model types, of single machines' series, and how they came about."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from django.db.models import F, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django_filters import FilterSet
from msgspec import Meta, Struct

from modelperf.api import parameters
from modelperf.api.authentication import ADMIN
from modelperf.api.base import Answer, Endpoint, call
from modelperf.api.cursors import Order, Page
from modelperf.api.filters import Filters
from modelperf.api.parameters import Cursor, Instant, Limit
from modelperf.models import Machine, Policy, PolicyEvent
from modelperf.services import policies
from modelperf.services.errors import FieldError
from modelperf.services.policies import MOST_HARMONICS, SETTINGS, PolicyValues

BY_MACHINE: Final = Order(("machine_id",), (uuid.UUID,))
NEWEST_FIRST: Final = Order(("-pgh_id",), (int,))
Seconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_SOURCE: Final = "Where a training finds its readings: a kind and its settings."
_TRAINER: Final = "What trains: energy_baseline, command, webhook or external, with settings."


class SeasonSettings(Struct, forbid_unknown_fields=True):
    """A season to be taken out before judging: sines and cosines of a period."""

    period_days: Annotated[float, Meta(ge=2, le=3660)]
    harmonics: Annotated[int, Meta(ge=1, le=MOST_HARMONICS)] = 2


class Settings(Struct, kw_only=True):
    """Settings of a policy. What is left out or null is inherited."""

    primary_metric: Annotated[str, Meta(max_length=100)] | None = None
    directions: dict[str, str] | None = None
    min_effect: Annotated[float, Meta(ge=0)] | None = None
    limit_value: float | None = None
    clear_value: float | None = None
    limit_hits: Annotated[int, Meta(ge=1, le=100)] | None = None
    limit_windows: Annotated[int, Meta(ge=1, le=100)] | None = None
    limit_clear_windows: Annotated[int, Meta(ge=1, le=100)] | None = None
    q: Annotated[float, Meta(gt=0, le=0.2)] | None = None
    min_evaluations: Annotated[int, Meta(ge=15, le=400)] | None = None
    label_delay_seconds: Seconds | None = None
    expected_cadence_seconds: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    alert_on_outlier: bool | None = None
    season: SeasonSettings | None = None
    fleet_alert_machines: Annotated[int, Meta(ge=2, le=2**31 - 1)] | None = None
    fleet_alert_share: Annotated[float, Meta(gt=0, le=1)] | None = None
    training_source: Annotated[dict[str, Any], Meta(description=_SOURCE)] | None = None
    trainer: Annotated[dict[str, Any], Meta(description=_TRAINER)] | None = None
    training_window_days: Annotated[int, Meta(ge=1, le=3660)] | None = None
    train_since_change: bool | None = None
    training_retries: Annotated[int, Meta(ge=0, le=10)] | None = None
    retrain_automatically: bool | None = None
    retrain_every_seconds: Annotated[int, Meta(ge=3600, le=2**31 - 1)] | None = None
    retrain_cooldown_seconds: Seconds | None = None
    retrain_tries: Annotated[int, Meta(ge=1, le=20)] | None = None
    retrain_daily_cap: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    after_training: Literal["wait", "activate", "test"] | None = None
    test_duration_hours: Annotated[float, Meta(ge=0.1, le=8784)] | None = None


class PolicyAnswer(Settings, kw_only=True):
    """What is set for a model type or a machine's series of it, and what holds: `effective`."""

    model_type: str
    machine_id: uuid.UUID | None
    effective: PolicyValues


class OverrideAnswer(Settings, kw_only=True):
    """What is set for one machine's series."""

    machine_id: uuid.UUID


class ChangeAnswer(Settings, kw_only=True):
    """A policy as it stood after it was set or changed, or before it was removed."""

    at: Instant
    event: str
    by: str | None
    machine_id: uuid.UUID | None


class NoFilters(FilterSet):  # type: ignore[misc]
    """The address says all."""


class PageQuery(Struct):
    """Which page is listed."""

    filters: ClassVar[Filters] = NoFilters
    cursor: Cursor | None = None
    limit: Limit = 100


class Policies(Endpoint):
    """Policies of model types, which machines may override setting by setting."""

    @call(answers=list[PolicyAnswer])
    def browse(self) -> list[PolicyAnswer]:
        """List the model types whose policies differ from the defaults."""
        found = Policy.objects.filter(machine=None).order_by("model_type")
        return [_answer(row, policies.policy_values(row)) for row in found]

    @call(answers=PolicyAnswer)
    def retrieve(self, model_type: str) -> PolicyAnswer:
        """Tell what is set for a model type, and what holds with the defaults."""
        return _told(model_type)

    @call(takes=Settings, answers=PolicyAnswer, scope=ADMIN, style="body", problems=(403,))
    def update(self, given: Settings, model_type: str) -> PolicyAnswer:
        """Set the policy of a model type as a whole; null gives a default back."""
        self.refuse_limited("set policies")
        return self._set(given, model_type)

    @call(takes=PageQuery, answers=Page[OverrideAnswer])
    def machines(self, given: PageQuery, model_type: str) -> Answer:
        """List the machines with settings of their own."""
        found = Policy.objects.filter(model_type=model_type, machine__isnull=False)
        return self.page(self._visible(found), OverrideAnswer, order=BY_MACHINE, given=given)

    @call(answers=PolicyAnswer, problems=(404,))
    def retrieve_override(self, model_type: str, machine_id: uuid.UUID) -> PolicyAnswer:
        """Tell what is set for a machine's series, and what holds with what it inherits."""
        return _told(model_type, self.machine(machine_id))

    @call(takes=Settings, answers=PolicyAnswer, scope=ADMIN, style="body", problems=(403, 404))
    def override(self, given: Settings, model_type: str, machine_id: uuid.UUID) -> PolicyAnswer:
        """Set what differs on one machine; where all is null, the machine has none of its own."""
        self.refuse_limited("set policies")
        return self._set(given, model_type, self.machine(machine_id))

    @call(takes=PageQuery, answers=Page[ChangeAnswer])
    def history(self, given: PageQuery, model_type: str) -> Answer:
        """List the changes of a model type's policy, its machines' included, newest first."""
        found = PolicyEvent.objects.filter(model_type=model_type)
        return self._changes(self._visible(found), given)

    @call(takes=PageQuery, answers=Page[ChangeAnswer], problems=(404,))
    def override_history(self, given: PageQuery, model_type: str, machine_id: uuid.UUID) -> Answer:
        """List the changes of what is set for one machine's series, newest first."""
        machine = self.machine(machine_id)
        found = PolicyEvent.objects.filter(model_type=model_type, machine_id=machine.pk)
        return self._changes(found, given)

    def _set(
        self, given: Settings, model_type: str, machine: Machine | None = None
    ) -> PolicyAnswer:
        if self.body() is None:  # {} resets a policy on purpose; nothing at all does not
            msg = "A JSON object is expected; {} sets nothing, so that everything is inherited."
            raise parameters.invalid([FieldError(("body",), msg, "type_error")])
        values = msgspec.to_builtins(given)
        policies.set_policy(model_type=model_type, machine=machine, values=values, by=self.actor)
        return _told(model_type, machine)

    def _changes(self, found: QuerySet[Any], given: PageQuery) -> Answer:
        found = found.annotate(
            at=F("pgh_created_at"),
            event=F("pgh_label"),
            by=KeyTextTransform("actor", "pgh_context"),
        )
        return self.page(found, ChangeAnswer, order=NEWEST_FIRST, given=given)

    def _visible(self, found: QuerySet[Any]) -> QuerySet[Any]:
        """Keep what is set for types, and for machines that the caller may see."""
        ids = self.access.machine_ids
        if ids is None:
            return found
        return found.filter(machine_id__in=ids) | found.filter(machine_id=None)


def _told(model_type: str, machine: Machine | None = None) -> PolicyAnswer:
    row = Policy.objects.filter(model_type=model_type, machine=machine).first()
    machine_id = machine.pk if machine else None
    effective = policies.policy_of(machine_id=machine_id, model_type=model_type)
    return _answer(row or Policy(model_type=model_type, machine_id=machine_id), effective)


def _answer(row: Policy, effective: PolicyValues) -> PolicyAnswer:
    return PolicyAnswer(
        model_type=row.model_type,
        machine_id=row.machine_id,
        effective=effective,
        **{name: getattr(row, name) for name in SETTINGS},
    )
