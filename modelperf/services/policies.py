"""Policies: how series are judged, said for a model type and, setting by setting, for a machine."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from math import isfinite
from typing import Any, Final, Self

import msgspec
import structlog
from django.core.exceptions import ValidationError
from django.db.models import F, Q, QuerySet

from modelperf import trainers
from modelperf.models import AfterTraining, Machine, Policy
from modelperf.models.metrics import REGISTERED_METRICS
from modelperf.models.registry import MODEL_TYPE_LENGTH, MODEL_TYPE_PATTERN
from modelperf.services.database import execute
from modelperf.services.errors import FieldError, InvalidError
from modelperf.services.metrics_rows import METRIC_NAME, is_metric_name
from modelperf.services.recorded import recorded
from modelperf.stats.orientation import kind_of
from modelperf.stats.results import HIGHER_IS_BETTER, MetricKind, Rules
from modelperf.trainers import TrainingError, sources

log = structlog.get_logger(__name__)

# Where nothing says what to judge by, what is reported decides: R² and errors of a regression,
# else the proportions of a classification, else what forecasts are often told in. A bias is the
# last resort: it may be zero while everything else is wrong.
_PREFERRED: Final = {
    name: place
    for place, name in enumerate(
        (*REGISTERED_METRICS, "accuracy", "log_loss", "smape", "cv_rmse", "mse")
    )
}
MOST_HARMONICS: Final = 6
_LAST_RESORT: Final = frozenset({"nmbe", "bias"})


@dataclass(frozen=True, slots=True)
class Season:
    """A season to be taken out before judging: sines and cosines of a period."""

    period_days: float
    harmonics: int = 2


@dataclass(frozen=True, slots=True)
class PolicyValues:
    """What a policy says; as it stands here it is the default where nothing is said.

    Values are compared and can be keys, so that what follows from them is found but once.
    """

    primary_metric: str | None = None
    directions: Mapping[str, str] = field(default_factory=dict, hash=False)
    min_effect: float = 0.02
    limit_value: float | None = None
    clear_value: float | None = None
    limit_hits: int = 2
    limit_windows: int = 3
    limit_clear_windows: int = 5
    q: float = 0.05
    min_evaluations: int = 30
    label_delay_seconds: int = 0
    expected_cadence_seconds: int | None = None
    alert_on_outlier: bool = False
    season: Season | None = None
    fleet_alert_machines: int = 4
    fleet_alert_share: float = 0.1
    training_source: Mapping[str, Any] | None = field(default=None, hash=False)
    trainer: Mapping[str, Any] | None = field(default=None, hash=False)
    training_window_days: int = 365  # a year: every season once
    train_since_change: bool = False
    training_retries: int = 1
    retrain_automatically: bool = False
    retrain_every_seconds: int | None = None
    retrain_cooldown_seconds: int = 86_400
    retrain_tries: int = 3
    retrain_daily_cap: int = 10
    after_training: AfterTraining = AfterTraining.WAIT
    test_duration_hours: float = 672.0  # four weeks

    def kind(self, metric: str) -> MetricKind | None:
        """Return how a metric is read, or None where nobody said."""
        declared = self.directions.get(metric)
        return MetricKind(declared) if declared else kind_of(metric)

    def judged_metric(self, reported: Iterable[str]) -> str | None:
        """Return the metric to judge by: the policy's, else R², else the first with a direction.

        The choice depends on which metrics are reported, never on the order of their arrival.
        """
        if self.primary_metric:
            return self.primary_metric
        candidates = [name for name in reported if self.kind(name)]
        return min(candidates, key=_preference, default=None)

    def rules(self, metric: str) -> Rules | None:
        """Return the rules for a metric, or None where its direction is unknown."""
        kind = self.kind(metric)
        return None if kind is None else _rules(self, kind)

    def clears_on_the_better_side(self, kind: MetricKind) -> bool:
        """Whether the second limit is better than the first, as it has to be."""
        if self.limit_value is None or self.clear_value is None:
            return True
        if kind in HIGHER_IS_BETTER:
            return self.clear_value >= self.limit_value
        return self.clear_value <= self.limit_value


SETTINGS: Final = tuple(setting.name for setting in fields(PolicyValues))


def policy_values(*rows: Policy | None) -> PolicyValues:
    """Return what a type's row and, where there is one, a machine's row say together."""
    return merged(*({name: getattr(row, name) for name in SETTINGS} for row in rows if row))


def merged(*settings: Mapping[str, Any]) -> PolicyValues:
    """Return the defaults, overridden by what each of some stored settings says, in turn."""
    said = {name: value for one in settings for name, value in one.items() if value is not None}
    return msgspec.convert(said, PolicyValues)


@lru_cache(maxsize=1024)
def read_policies(stored: str | bytes | None) -> PolicyValues:
    """Return what the JSON of a type's row and its machine's row, an array, say together."""
    return merged(*msgspec.json.decode(stored or b"[]", type=list[dict[str, Any]]))


class Policies:
    """All policies of the fleet, read by one statement; equal values are one object."""

    def __init__(self, settings: Mapping[tuple[uuid.UUID | None, str], Mapping[str, Any]]) -> None:
        self._settings = settings
        self._of_type: dict[str, PolicyValues] = {}
        self._of_series: dict[tuple[uuid.UUID | None, str], PolicyValues] = {}

    @classmethod
    def load(cls) -> Self:
        """Read every policy."""
        found = Policy.objects.order_by().values("machine_id", "model_type", *SETTINGS)
        return cls({(row.pop("machine_id"), row.pop("model_type")): row for row in found})

    def of(self, machine_id: uuid.UUID | None, model_type: str) -> PolicyValues:
        """Return what holds for a series; without a machine, for the type."""
        place = machine_id, model_type
        if machine_id is None or place not in self._settings:
            return self._for_type(model_type)
        if place not in self._of_series:
            settings = self._settings.get((None, model_type), {}), self._settings[place]
            self._of_series[place] = merged(*settings)
        return self._of_series[place]

    def _for_type(self, model_type: str) -> PolicyValues:
        if model_type not in self._of_type:
            self._of_type[model_type] = merged(self._settings.get((None, model_type), {}))
        return self._of_type[model_type]


def policy_of(*, machine_id: uuid.UUID | None, model_type: str) -> PolicyValues:
    """Return what holds for one series; without a machine, for the type."""
    found = Policy.objects.filter(Q(machine=None) | Q(machine=machine_id), model_type=model_type)
    return policy_values(*found.order_by(F("machine_id").asc(nulls_first=True)))


def set_policy(
    *, model_type: str, machine: Machine | None = None, values: Mapping[str, Any], by: str
) -> Policy:
    """Change settings of a model type, or of one machine's series of it; None inherits again.

    What is judged next is judged by them. A policy that no longer sets anything is removed.

    Raises
    ------
    InvalidError
        A value is out of its range, or contradicts another that holds with it.
    """
    unknown = sorted(values.keys() - set(SETTINGS))
    if unknown:
        raise InvalidError.field(unknown[0], f"A policy has no {unknown[0]}.", type="unknown")
    if not re.fullmatch(MODEL_TYPE_PATTERN, model_type) or len(model_type) > MODEL_TYPE_LENGTH:
        msg = f"model_type is a slug of up to {MODEL_TYPE_LENGTH} characters."
        raise InvalidError.field("model_type", msg)
    with recorded(by=by):
        # One writer of a type's policies at a time, also of one that is not there yet.
        execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"policy:{model_type}"])
        rows = {row.machine_id: row for row in _of_type(model_type)}
        policy = rows.setdefault(
            machine.pk if machine else None, Policy(model_type=model_type, machine=machine)
        )
        for name, value in values.items():
            setattr(policy, name, None if value in _NOTHING else value)
        _refuse_problems(policy)
        _refuse_contradictions(policy, rows)
        _store(policy)
    log.info(
        "policy_changed",
        model_type=model_type,
        machine_id=str(machine.pk) if machine else None,
        changed=sorted(values),
        by=by,
    )
    return policy


_NOTHING: Final[tuple[Any, ...]] = (None, "", {})


def _of_type(model_type: str) -> QuerySet[Policy]:
    return Policy.objects.filter(model_type=model_type).select_related("machine").order_by()


def _store(policy: Policy) -> None:
    if any(getattr(policy, name) is not None for name in SETTINGS):
        policy.save()
    else:
        Policy.objects.filter(pk=policy.pk).delete()


def _refuse_problems(policy: Policy) -> None:
    """Refuse values that are wrong in themselves."""
    found: list[FieldError] = []
    try:
        policy.full_clean(exclude=("machine",), validate_unique=False)
    except ValidationError as error:
        found += [
            FieldError(("body", name if name in SETTINGS else str(one.code)), one.messages[0])
            for name, problems in error.error_dict.items()
            for one in problems
        ]
    found += [
        FieldError(("body", name), f"{name} is a finite number.")
        for name in SETTINGS
        if isinstance(value := getattr(policy, name), float) and not isfinite(value)
    ]
    found += _wrong_directions(policy.directions)
    found += _wrong_season(policy.season)
    found += _wrong_document("training_source", policy.training_source, sources.find)
    found += _wrong_document("trainer", policy.trainer, trainers.find)
    if found:
        raise InvalidError(found[0].msg, found)


def _wrong_directions(directions: Any) -> list[FieldError]:
    if directions is None:
        return []
    if not isinstance(directions, dict):
        return [FieldError(("body", "directions"), "directions maps metrics to kinds.")]
    names = [
        FieldError(("body", "directions", name[:100]), METRIC_NAME)
        for name in directions
        if not is_metric_name(name)
    ]
    return names + [
        FieldError(("body", "directions", name[:100]), f"{name[:100]}: one of {_KINDS}.")
        for name, kind in directions.items()
        if kind not in tuple(MetricKind)
    ]


_KINDS: Final = ", ".join(MetricKind)


def _wrong_season(season: Any) -> list[FieldError]:
    if season is None:
        return []
    try:
        found = msgspec.convert(season, Season)
    except msgspec.ValidationError as error:
        return [FieldError(("body", "season"), f"season: {error}.")]
    if set(season) - {"period_days", "harmonics"}:
        return [FieldError(("body", "season"), "season has period_days and harmonics.")]
    if not (2 <= found.period_days <= 3660 and 1 <= found.harmonics <= MOST_HARMONICS):
        msg = f"season: period_days from 2 to 3660, harmonics from 1 to {MOST_HARMONICS}."
        return [FieldError(("body", "season"), msg)]
    return []


def _wrong_document(
    name: str, document: Any, find: Callable[[Mapping[str, Any]], object]
) -> list[FieldError]:
    """Return what is wrong with settings that name a kind, as that kind itself says."""
    if document is None:
        return []
    if not isinstance(document, dict):
        return [FieldError(("body", name), f"{name} is an object.")]
    try:
        find(document)
    except TrainingError as error:
        return [FieldError(("body", name), str(error))]
    return []


def _refuse_contradictions(policy: Policy, rows: Mapping[Any, Policy]) -> None:
    """Refuse what contradicts itself once inherited, for a type also on each of its machines."""
    of_type = rows.get(None)
    heirs = rows.values() if policy is of_type else [policy]
    for heir in heirs:
        values = policy_values(of_type, heir if heir is not of_type else None)
        found = _contradictions(values, _whose(heir, policy))
        if found:
            raise InvalidError(found[0].msg, found)


def _whose(heir: Policy, policy: Policy) -> str:
    return "" if heir is policy else f" (on the machine {heir.machine}, which has its own)"


def _contradictions(values: PolicyValues, whose: str) -> list[FieldError]:
    """Return what is wrong between values that are each in order."""
    if values.limit_hits > values.limit_windows:
        msg = f"limit_hits is at most limit_windows, {values.limit_windows}{whose}."
        return [FieldError(("body", "limit_hits"), msg)]
    if values.clear_value is not None and values.limit_value is None:
        return [FieldError(("body", "clear_value"), f"clear_value needs a limit_value{whose}.")]
    return _wrong_sides(values, whose)


def _wrong_sides(values: PolicyValues, whose: str) -> list[FieldError]:
    """Return what is wrong with limits: their better side depends on the metric's direction."""
    if not values.primary_metric:
        if values.clear_value is None:
            return []
        msg = f"clear_value needs a primary_metric, whose direction tells its side{whose}."
        return [FieldError(("body", "clear_value"), msg)]
    kind = values.kind(values.primary_metric)
    if kind is None:
        msg = f"Declare the direction of {values.primary_metric} in directions{whose}."
        return [FieldError(("body", "primary_metric"), msg)]
    if values.clears_on_the_better_side(kind):
        return []
    side = "at least" if kind in HIGHER_IS_BETTER else "at most"
    msg = (
        "clear_value must be on the better side of the limit:"
        f" {side} {values.limit_value:g}{whose}."
    )
    return [FieldError(("body", "clear_value"), msg)]


@lru_cache(maxsize=4096)
def _rules(values: PolicyValues, kind: MetricKind) -> Rules:
    return Rules(
        kind=kind,
        min_effect=values.min_effect,
        min_evaluations=values.min_evaluations,
        limit=values.limit_value,
        clear_limit=values.clear_value if _has_clear_limit(values, kind) else None,
        limit_hits=min(values.limit_hits, values.limit_windows),
        limit_windows=values.limit_windows,
        limit_clear_windows=values.limit_clear_windows,
        season_period_days=values.season.period_days if values.season else None,
        season_harmonics=values.season.harmonics if values.season else 2,
    )


def _has_clear_limit(values: PolicyValues, kind: MetricKind) -> bool:
    return values.limit_value is not None and values.clears_on_the_better_side(kind)


def _preference(metric: str) -> tuple[int, str]:
    if metric in _LAST_RESORT:
        return len(_PREFERRED) + 1, metric
    return _PREFERRED.get(metric, len(_PREFERRED)), metric
