"""Who a fleet alert is about: those of its present incident, as long as they are in service."""

from __future__ import annotations

import pytest

from modelperf.models import Alert, AlertMember, ModelVersion, Notice
from modelperf.services import alerts, checks, metrics, registry, registry_activation
from tests.factories import ModelVersionFactory
from tests.services.builders import evaluation, noisy, series

pytestmark = pytest.mark.django_db
ADA = "user:ada"
WELL, BAD = 40, 3  # evaluations before a fall, and of it


class Fleet:
    """Machines of one type whose evaluations are recorded in batches, and then checked."""

    def __init__(self, n: int, model_type: str = "baseline") -> None:
        self.models = ModelVersionFactory.create_batch(n, is_active=True, model_type=model_type)
        self.day = 0

    def go_on(self, n: int, *, bad: set[int] | frozenset[int] = frozenset()) -> None:
        """Record so many evaluations of all, at eight times the loss where it is bad; check."""
        for at, model in enumerate(self.models):
            values = noisy(1_000 * self.day + at, n, level=8.0 if at in bad else 1.0)
            sent = [
                evaluation(model, day, metrics={"mae": value})
                for day, value in enumerate(values, start=self.day)
            ]
            metrics.record_batch(evaluations=sent, by="a")
        self.day += n
        checks.run(by="a")

    def retire(self, first: int) -> None:
        """Take the first so many machines out of service."""
        for model in self.models[:first]:
            registry.retire_machine(machine=model.machine, by="a")

    def renew(self, first: int) -> list[ModelVersion]:
        """Let a new version serve each of the first so many machines."""
        renewed = []
        for model in self.models[:first]:
            version = ModelVersionFactory.create(machine=model.machine)
            registry_activation.activate_model(model=version, by="a")
            renewed.append(version)
        return renewed


def fallen(n: int, bad: set[int], *, model_type: str = "baseline") -> tuple[Fleet, Alert]:
    """Return a fleet of which some have fallen at once, and the alert of that."""
    fleet = Fleet(n, model_type)
    fleet.go_on(WELL)
    fleet.go_on(BAD, bad=bad)
    alert = Alert.objects.unresolved().get(model_type=model_type)
    assert alert.machine_id is None
    assert present(alert) == {fleet.models[at].machine_id for at in bad}
    return fleet, alert


def present(alert: Alert) -> set[object]:
    found = AlertMember.objects.present().filter(alert=alert)
    return set(found.values_list("machine_id", flat=True))


def told() -> list[tuple[str, bool]]:
    """Return what was told, and whether it was of the fleet."""
    found = Notice.objects.order_by("occurred_at", "id")
    return [(one.kind, one.alert.machine_id is None) for one in found.select_related("alert")]


@pytest.mark.parametrize("by_person", [True, False])
def test_another_storm_is_about_who_falls_then_and_one_message(by_person: bool) -> None:
    fleet, alert = fallen(20, set(range(12)))
    if by_person:
        alerts.resolve(alert=alert, by=ADA, action="fixed")
    fleet.go_on(20)
    alert.refresh_from_db()
    assert alert.is_resolved
    others = {14, 15, 16, 17}
    fleet.go_on(BAD, bad=others)
    machines = {fleet.models[at].machine_id for at in others}
    alert.refresh_from_db()
    assert alert.state == "open"
    assert present(alert) == machines
    assert alert.alert_details["n_members"] == 4
    assert Notice.objects.latest("occurred_at", "id").says["n_members"] == 4
    checks.run(by="a")
    assert Alert.objects.unresolved().get() == alert
    assert present(alert) == machines
    assert told() == [("opened", True), ("resolved", True), ("reopened", True)]


def test_who_is_still_as_a_person_left_it_is_part_of_what_opens_again() -> None:
    fleet, alert = fallen(20, {0, 1, 2, 3, 4})
    alerts.resolve(alert=alert, by=ADA, action="accepted")
    fleet.go_on(20, bad={0, 1, 2, 3, 4})
    assert not Alert.objects.unresolved().exists()
    every = {0, 1, 2, 3, 4, 10, 11, 12, 13}
    fleet.go_on(2, bad=every)
    alert.refresh_from_db()
    assert alert.alert_message.startswith("baseline: 9 of 20 machines at once")
    assert Notice.objects.latest("occurred_at", "id").says["n_members"] == 9
    fleet.go_on(2, bad={*every, 14})  # who falls with the newer ones has no alert of its own
    assert Alert.objects.unresolved().get() == alert
    assert len(present(alert)) == 10


def test_who_comes_again_joins_anew() -> None:
    fleet, alert = fallen(8, {0, 1, 2, 3, 4})
    of_machine = alert.members.filter(machine=fleet.models[4].machine)
    before = of_machine.get().joined_at
    of_machine.update(left_at=before)
    checks.run(by="a")
    again = of_machine.get()
    assert again.left_at is None
    assert again.joined_at > before


def test_who_is_retired_has_not_recovered() -> None:
    fleet, alert = fallen(8, set(range(8)))
    fleet.retire(5)
    checks.run(by="a")
    assert Alert.objects.unresolved().get() == alert
    assert present(alert) == {model.machine_id for model in fleet.models[5:]}
    assert told() == [("opened", True)]
    fleet.go_on(20, bad={5})  # and two of three recover
    alert.refresh_from_db()
    assert alert.resolution_action == "recovered"
    assert Alert.objects.unresolved().get().machine_id == fleet.models[5].machine_id


def test_an_alert_ends_when_nothing_it_is_about_is_in_service() -> None:
    fleet, alert = fallen(5, set(range(5)), model_type="old")
    Fleet(1, "other").go_on(WELL)
    fleet.retire(5)
    checks.run(by="a")
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.resolution_action) == (True, "retired")
    assert present(alert) == set()


def test_of_a_version_that_was_never_evaluated_nobody_knows_that_it_is_well() -> None:
    fleet, alert = fallen(8, set(range(8)))
    said = alert.alert_message
    renewed = fleet.renew(6)
    checks.run(by="a")
    alert.refresh_from_db()
    assert not alert.is_resolved
    assert len(present(alert)) == 8
    fleet.renew(8)
    checks.run(by="a")
    alert.refresh_from_db()
    assert (alert.is_resolved, alert.alert_message) == (False, said)
    assert told() == [("opened", True)]
    registry_activation.activate_model(model=renewed[0], by="a")
    sent = series(renewed[0], noisy(7, 30))
    metrics.record_batch(evaluations=sent, by="a")
    checks.run(by="a")
    assert present(alert) == {model.machine_id for model in fleet.models[1:]}
