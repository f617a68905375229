"""Silences have a reason, an owner and an end; who changed them is kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from modelperf.models import Alert, AlertMember, Silence, SilenceEvent
from modelperf.services import matching, silences
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.silences import InForce
from tests.factories import AlertFactory, ModelVersionFactory

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def silenced(**given: Any) -> Silence:
    known = {
        "matchers": {"machine": ["*"]},
        "reason": "Maintenance.",
        "owner": "Anna",
        "ends_at": timezone.now() + HOUR,
        "by": "user:anna",
    }
    return silences.create(**known | given)


def over(alert: Alert, at: datetime | None = None) -> Silence | None:
    loaded = matching.load(Alert.objects.filter(pk=alert.pk))[alert.pk]
    return InForce(at or timezone.now()).over(matching.matched(loaded))


def events(silence: Silence) -> list[tuple[str, str, str]]:
    return [
        (event.pgh_label, event.pgh_context["actor"], event.pgh_context["verb"])
        for event in SilenceEvent.objects.filter(pgh_obj=silence.pk).order_by("pgh_id")
    ]


def test_a_silence_is_over_what_it_matches_from_its_start_to_its_end() -> None:
    alert = AlertFactory.create()
    start = timezone.now() + HOUR
    silence = silenced(starts_at=start, ends_at=start + HOUR)
    other = silenced(matchers={"severity": ["critical"]})
    assert over(alert) is None
    assert over(alert, start) == silence
    assert over(alert, start + HOUR) is None
    alert.severity = "critical"
    alert.save()
    assert over(alert) == other


def test_of_several_the_one_that_ends_last_is_named() -> None:
    silenced()
    last = silenced(ends_at=timezone.now() + 2 * HOUR)
    silenced()
    assert over(AlertFactory.create()) == last


def test_a_fleet_alert_is_silenced_only_where_every_machine_is() -> None:
    alert = AlertFactory.create(fleet=True)
    models = ModelVersionFactory.create_batch(2)
    for model in models:
        AlertMember.objects.create(
            alert=alert, machine=model.machine, model=model, joined_at=timezone.now()
        )
    silence = silenced(matchers={"machine": [models[0].machine.name]})
    assert over(alert) is None
    assert alert not in silences.preview(matchers=silence.matchers)
    AlertMember.objects.filter(machine=models[1].machine).update(left_at=timezone.now())
    assert over(alert) == silence
    assert silences.preview(matchers=silence.matchers) == [alert]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"matchers": {}}, "names what it is for"),
        ({"matchers": {"severity": []}}, "names what it is for"),
        ({"matchers": {"site": ["x"]}}, "unknown field"),
        ({"reason": "  "}, "reason is a text of 1 to 2000"),
        ({"owner": "x" * 201}, "owner is a text of 1 to 200"),
        ({"reason": "a\0"}, "reason is a text"),
        ({"ends_at": datetime(2999, 1, 1)}, "ends_at needs a time zone"),  # noqa: DTZ001
        ({"starts_at": timezone.now() + 2 * HOUR}, "ends after it starts"),
        (
            {"starts_at": timezone.now() - 2 * HOUR, "ends_at": timezone.now() - HOUR},
            "ends later than now",
        ),
    ],
)
def test_a_silence_without_reason_owner_or_end_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        silenced(**given)
    assert not Silence.objects.exists()


def test_changes_are_kept_with_who_made_them() -> None:
    silence = silenced()
    until = silence.ends_at + HOUR
    changed = silences.change(silence=silence, by="user:bob", ends_at=until, reason=" Longer. ")
    assert (changed.reason, changed.ends_at, changed.owner) == ("Longer.", until, "Anna")
    silences.end(silence=silence, by="key:ops")
    assert not Silence.objects.in_force(timezone.now()).exists()
    assert events(silence) == [
        ("insert", "user:anna", "create"),
        ("update", "user:bob", "change"),
        ("update", "key:ops", "end"),
    ]


def test_a_change_to_what_would_be_refused_changes_nothing() -> None:
    silence = silenced()
    with pytest.raises(InvalidError):
        silences.change(silence=silence, by="user:bob", ends_at=timezone.now() - HOUR)
    with pytest.raises(InvalidError):
        silences.change(silence=silence, by="user:bob", matchers={})
    assert len(events(silence)) == 1


def test_what_is_over_stays_over() -> None:
    silence = silences.end(silence=silenced(), by="user:anna")
    with pytest.raises(ConflictError, match="over since") as refused:
        silences.change(silence=silence, by="user:bob", ends_at=timezone.now() + HOUR)
    assert refused.value.state["ends_at"] == silence.ends_at
    with pytest.raises(ConflictError):
        silences.end(silence=silence, by="user:bob")


def test_what_is_ended_before_it_began_never_begins() -> None:
    start = timezone.now() + HOUR
    silence = silenced(starts_at=start, ends_at=start + HOUR)
    silences.end(silence=silence, by="user:anna")
    assert not Silence.objects.in_force(start).exists()


def test_the_preview_names_unresolved_alerts_worst_first_and_only_what_may_be_seen() -> None:
    warning, critical = AlertFactory.create(), AlertFactory.create(severity="critical")
    AlertFactory.create(resolved=True)
    assert silences.preview(matchers={"machine": ["*"]}) == [critical, warning]
    assert silences.preview(matchers={"severity": ["warning"]}) == [warning]
    assert silences.preview(matchers={"alert_type": ["data_drift"]}) == []
    own = frozenset([warning.machine_id])
    assert silences.preview(matchers={"machine": ["*"]}, machine_ids=own) == [warning]
    with pytest.raises(InvalidError):
        silences.preview(matchers={"severity": ["fatal"]})


def test_a_stored_silence_that_cannot_be_read_silences_nothing() -> None:
    silence = silenced()
    Silence.objects.filter(pk=silence.pk).update(matchers={"site": ["x"]})
    assert over(AlertFactory.create()) is None
