"""Old windows that come late, twice or corrected leave alerts alone, and tell nobody again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction

from modelperf.models import Alert, ModelVersion, Notice
from modelperf.services import drift, metrics, policies
from modelperf.services.metrics import Evaluation
from tests.factories import ModelVersionFactory
from tests.services.builders import noisy, series

pytestmark = pytest.mark.django_db

SHUFFLES = 125  # of each of four scenarios
LATE = (3, 22, 38)  # windows that are missing when the new ones begin to come
WRONG = (5, 16)  # that were recorded with another value
TWICE = 3
FIRST_NEW = 45


@dataclass(frozen=True)
class Scenario:
    """A series of which the windows from `FIRST_NEW` on are new, and what is told of it.

    It changes clearly: where one old window decides whether there is a change, the end and the new
    beginning that its correction makes are both told, the latter with the next new window.
    """

    values: list[float]
    told: list[str]
    limit: float | None = None


SCENARIOS = {
    "falls": Scenario([*noisy(14, 46), *noisy(15, 9, level=1.45)], ["opened"]),
    "collapses": Scenario([*noisy(2, 47), *noisy(3, 8, level=8.0)], ["opened"]),
    "recovers": Scenario([*noisy(4, 45, fall_at=30), *noisy(5, 12)], ["opened", "resolved"]),
    "crosses": Scenario(
        [*noisy(6, 46), *noisy(7, 3, level=1.8), *noisy(8, 6)], ["opened", "resolved"], limit=1.4
    ),
}


class RollbackError(Exception):
    """Ends a shuffle's transaction, so that the next one starts from what was recorded first."""


def wrong(sent: Evaluation) -> Evaluation:
    given = {name: getattr(sent, name) for name in Evaluation.__struct_fields__}
    return Evaluation(**given | {"metrics": {"mae": 2.5}})


def begin(model: ModelVersion, history: Sequence[Evaluation]) -> None:
    """Record the old windows as they come at first: some wrong, some not at all."""
    known = [
        wrong(sent) if at in WRONG else sent
        for at, sent in enumerate(history[:FIRST_NEW])
        if at not in LATE
    ]
    metrics.record_batch(evaluations=known, by="a", judge=True)


def outcome(model: ModelVersion) -> dict[str, Any]:
    """Return what must not depend on when old windows come: alerts, and what was told of them."""
    drift.check(model=model, by="a")
    columns = (
        *("condition_key", "state", "severity", "occurrences", "current_metric_value"),
        *("peak_metric_value", "threshold_value", "baseline_metric_value", "seen_through"),
        *("alert_message", "alert_details", "model_version"),
    )
    notices = Notice.objects.order_by("occurred_at", "id")
    # Who hears of a critical alert at once does not hear that its severity rose.
    told = notices.exclude(kind="severity_rose").values_list("alert__condition_key", "kind")
    return {
        "alerts": list(Alert.objects.unresolved().order_by("condition_key").values(*columns)),
        "told": list(told),
    }


def shuffled(history: Sequence[Evaluation], rng: random.Random) -> list[Evaluation]:
    """Return the new windows in order, and between them old ones: late, corrected, repeated."""
    sent = list(history[FIRST_NEW:])
    for at in (*LATE, *WRONG):
        sent.insert(rng.randrange(len(sent) + 1), history[at])
    for _ in range(TWICE):
        place = rng.randrange(1, len(sent) + 1)
        sent.insert(place, rng.choice([*history[:3], *sent[:place]]))
    return sent


@pytest.mark.parametrize("name", SCENARIOS)
def test_old_windows_between_new_ones_leave_no_trace_and_tell_nobody_again(name: str) -> None:
    scenario = SCENARIOS[name]
    if scenario.limit is not None:
        # A change that large is none beside the limit.
        limit = {"primary_metric": "mae", "limit_value": scenario.limit, "min_effect": 5.0}
        policies.set_policy(model_type="baseline", values=limit, by="a")
    model: ModelVersion = ModelVersionFactory.create(is_active=True)
    history = series(model, scenario.values)
    begin(model, history)
    with suppress(RollbackError), transaction.atomic():
        for at in (*LATE, *WRONG):
            metrics.record(evaluation=history[at], by="a")
        for sent in history[FIRST_NEW:]:
            metrics.record(evaluation=sent, by="a")
        expected = outcome(model)
        raise RollbackError
    assert [kind for _, kind in expected["told"]] == scenario.told
    assert len(expected["alerts"]) == (scenario.told[-1] != "resolved")
    for seed in range(SHUFFLES):
        rng = random.Random(seed)
        with suppress(RollbackError), transaction.atomic():
            for sent in shuffled(history, rng):
                metrics.record(evaluation=sent, by="a")
            assert outcome(model) == expected, f"seed {seed}"
            raise RollbackError
