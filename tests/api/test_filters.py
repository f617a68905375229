"""What lists can be filtered by: every parameter of a list has its filter, and each one works."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone
from msgspec import structs
from rest_framework.test import APIClient

from modelperf.api import urls
from modelperf.api.base import Call
from modelperf.models import ModelVersion, Silence
from tests import factories
from tests.api.calls import NOWHERE, ROOT, places

pytestmark = pytest.mark.django_db
NO_FILTERS = {"cursor", "limit", "format"}


def lists() -> Iterator[tuple[str, Call]]:
    """Return the address of every list that is read in pages, and what its call declares."""
    for route in urls.nouns:
        view = route.callback
        action = getattr(view.cls, view.actions.get("get", ""), None)
        call = getattr(action, "call", None)
        has_pages = call and call.takes and "cursor" in call.takes.__struct_fields__
        if has_pages and "<" not in str(route.pattern):
            yield str(route.pattern), call


LISTS = dict(lists())
LONG_AGO, LATER = "1999-01-01T00:00:00Z", "2199-01-01T00:00:00Z"
# Values that keep nothing of what the tests store; of a truth value it is the other one.
OTHERS = {
    "machine_id": NOWHERE,
    "model_id": NOWHERE,
    "model_type": "another",
    "type": "another",
    "start": LATER,
    "end": LONG_AGO,
    "severity": "critical",
    "state": "snoozed",
    "test_status": "planned",
    "training_status": "failed",
    "trigger_type": "scheduled",
    "trainer": "another",
    "status": "degraded",
    "check_run_id": NOWHERE,
    "feature": "another",
    "role": "target",
    "alert_type": "data_drift",
    "assignee": "none",
    "team": "none",
    "since": LATER,
    "until": LONG_AGO,
    "q": "another",
    "fleet": "true",
    "owner": "another",
}
# Values that keep it where no field of the row has them.
WANTED = {
    "start": LONG_AGO,
    "end": LATER,
    "is_current": True,
    "since": LONG_AGO,
    "until": LATER,
    "q": "GOT WORSE",
    "fleet": False,
}
FILTERS = [(path, name) for path, call in LISTS.items() for name in call.takes.filters.base_filters]


def test_the_lists_are_all_there() -> None:
    assert LISTS.keys() == {
        "machines",
        "models",
        "metrics",
        "metrics/latest",
        "profiles",
        "profiles/references",
        "checks",
        "verdicts",
        "training",
        "ab-test",
        "ab-test/active",
        "alerts",
        "alerts/active",
        "silences",
    }


@pytest.mark.parametrize("path", LISTS)
def test_every_parameter_of_a_list_has_a_filter(path: str) -> None:
    kind: Any = LISTS[path].takes
    parameters = {field.name for field in structs.fields(kind)}
    assert kind.filters.base_filters.keys() == parameters - NO_FILTERS


@pytest.fixture
def model() -> ModelVersion:
    """Store a row of every list, and a machine that has none."""
    factories.MachineFactory(pk=NOWHERE)
    model = factories.ModelVersionFactory(is_active=True)
    metric = factories.ModelPerformanceMetricFactory(model=model)
    factories.LatestPerformanceFactory.of(metric)
    factories.TrainingRunFactory(machine=model.machine)
    factories.ABTestFactory(model_a=model, machine=model.machine)
    team = Group.objects.create(name="night shift")
    factories.AlertFactory(model=model, assignee=factories.UserFactory(), team=team)
    now = timezone.now()
    Silence.objects.create(
        matchers={"machine": ["*"]},
        reason="a new bearing",
        owner="Ada",
        starts_at=now,
        ends_at=now + timedelta(hours=1),
        created_by="user:ada",
    )
    reference = factories.FeatureReferenceFactory(model=model)
    factories.WindowProfileFactory(reference=reference)
    run = factories.CheckRunFactory(machine=model.machine, model_type=model.model_type)
    factories.StoredVerdictFactory(model=model, check_run=run)
    return model


@pytest.mark.parametrize(("path", "name"), FILTERS)
def test_a_filter_keeps_what_fits_and_nothing_else(
    api: APIClient, model: ModelVersion, path: str, name: str
) -> None:
    def found(**query: str) -> list[Any]:
        answer = api.get(f"{ROOT}/{path}", query).json()
        return list(answer if isinstance(answer, list) else answer["results"])

    row = found()[0]
    wanted = (WANTED | row)[name]
    unwanted = OTHERS.get(name, str(not wanted).lower())
    wanted = str(wanted).lower() if type(wanted) is bool else wanted
    assert row["id"] in [one["id"] for one in found(**{name: wanted})]
    assert row["id"] not in [one["id"] for one in found(**{name: unwanted})]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_refuses_what_it_cannot_be_filtered_by(api: APIClient, path: str) -> None:
    for query in ("colour=red", "evaluation_end__gte=2024-01-01T00:00:00Z", "filters=1"):
        name = query.partition("=")[0]
        assert places(api.get(f"{ROOT}/{path}?{query}")) == [["query", name]]
    for name in ("machine_id", "is_active", "start", "severity"):
        if name in LISTS[path].takes.__struct_fields__:  # type: ignore[union-attr]
            assert places(api.get(f"{ROOT}/{path}?{name}=x")) == [["query", name]]


def test_machines_without_a_kind_are_found_by_none(api: APIClient) -> None:
    factories.MachineFactory(type="pump")
    plain = factories.MachineFactory(type="")
    found = api.get(f"{ROOT}/machines?type=").json()["results"]
    assert [one["id"] for one in found] == [str(plain.pk)]


def test_bounds_of_a_window_take_the_start_in_and_leave_the_end_out(api: APIClient) -> None:
    metric = factories.ModelPerformanceMetricFactory()
    moment = f"{metric.evaluation_end:%FT%TZ}"
    for name, count in (("start", 1), ("end", 0)):
        found = api.get(f"{ROOT}/metrics", {name: moment}).json()["results"]
        assert len(found) == count
