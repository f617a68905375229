"""Hundreds of machines that degrade at once are told of once, and so is who does not recover."""

from __future__ import annotations

from collections import Counter

import pytest

from modelperf.models import Alert, AlertMember, ModelVersion, Notice
from modelperf.services import checks, metrics
from tests.factories import ModelVersionFactory
from tests.services.builders import noisy, series

pytestmark = pytest.mark.django_db

MACHINES = 300
LEFT = 10  # that do not recover
WELL, FALLEN = 34, 12  # evaluations


def go_on(models: list[ModelVersion], histories: list[list[float]], seen: int) -> None:
    """Record what comes after so many evaluations, and check the fleet."""
    sent = [
        one
        for model, values in zip(models, histories, strict=True)
        for one in series(model, values)[seen:]
    ]
    for first in range(0, len(sent), metrics.LARGEST_BATCH):
        batch = sent[first : first + metrics.LARGEST_BATCH]
        metrics.record_batch(evaluations=batch, by="a")
    checks.run(by="a")


def told() -> Counter[tuple[str, bool]]:
    """Return how many notices there are, by kind and whether they are about the fleet."""
    found = Notice.objects.values_list("kind", "alert__machine_id")
    return Counter((kind, machine_id is None) for kind, machine_id in found)


def test_a_storm_is_one_notice_and_who_is_left_gets_its_own() -> None:
    models = ModelVersionFactory.create_batch(MACHINES, is_active=True)
    well = [noisy(seed, WELL) for seed in range(MACHINES)]
    go_on(models, well, 0)
    assert not Alert.objects.exists()

    fallen = [
        [*values, *noisy(1_000 + seed, FALLEN, level=2.0)] for seed, values in enumerate(well)
    ]
    go_on(models, fallen, WELL)
    fleet = Alert.objects.get()
    assert fleet.machine_id is None
    assert AlertMember.objects.present().filter(alert=fleet).count() == MACHINES
    assert told() == {("opened", True): 1}
    notice = Notice.objects.get()
    assert notice.says["n_members"] == MACHINES
    assert notice.says["seen_through"] is not None
    checks.run(by="a")
    assert told() == {("opened", True): 1}

    after = [2.0] * LEFT + [1.0] * (MACHINES - LEFT)
    goes_on = [
        [*values, *noisy(2_000 + seed, 20, level=after[seed])] for seed, values in enumerate(fallen)
    ]
    go_on(models, goes_on, WELL + FALLEN)
    fleet.refresh_from_db()
    assert (fleet.state, fleet.resolution_action) == ("resolved", "recovered")
    single = Alert.objects.unresolved()
    assert {one.machine_id for one in single} == {one.machine_id for one in models[:LEFT]}
    assert told() == {("opened", True): 1, ("resolved", True): 1, ("opened", False): LEFT}

    longer = [
        [*values, *noisy(3_000 + seed, 2, level=after[seed])] for seed, values in enumerate(goes_on)
    ]
    go_on(models, longer, len(goes_on[0]))
    assert Alert.objects.unresolved().count() == LEFT
    beginnings = {kind: n for kind, n in told().items() if kind[0] != "severity_rose"}
    assert beginnings == {("opened", True): 1, ("resolved", True): 1, ("opened", False): LEFT}
