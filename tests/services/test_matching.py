"""Matchers are read strictly, and met by any or by every machine of an alert."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from modelperf.models import Alert, AlertMember
from modelperf.services import matching
from modelperf.services.errors import InvalidError
from modelperf.services.matching import Matched, Place
from tests.factories import AlertFactory, MachineFactory, ModelVersionFactory

PUMP = Place(uuid.UUID(int=7), "pump 7", "hall 1")
FAN = Place(uuid.UUID(int=8), "fan 8", "hall 2")


def seen(*machines: Place, **other: str) -> Matched:
    known = {"alert_type": "drift_detected", "severity": "warning", "model_type": "load_48h"}
    return Matched(**known | other, machines=machines)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, None),
        ({"severity": ["critical", "warning"]}, None),
        ({"severity": ["critical"]}, "severity warning does not match critical"),
        (
            {"alert_type": ["training_failed"]},
            "alert_type drift_detected does not match training_failed",
        ),
        ({"model_type": ["load_*"]}, None),
        ({"model_type": ["Load_*"]}, "model_type load_48h does not match Load_*"),
        ({"machine": ["pump*"]}, None),
        ({"machine": [str(PUMP.id)]}, None),
        ({"machine": ["fan*"]}, "machine pump 7 does not match machine fan*"),
        ({"location": ["*1"]}, None),
        (
            {"machine": ["pump*"], "location": ["hall 2"]},
            "machine pump 7 in hall 1 does not match machine pump*, location hall 2",
        ),
        ({"machine": ["fan*", "*7"], "severity": ["warning"]}, None),
    ],
)
def test_each_field_is_met_by_one_of_its_values(document: dict[str, Any], why: str | None) -> None:
    matchers = matching.read(document)
    assert matching.why_not(matchers, seen(PUMP), every=True) == why
    assert matching.why_not(matchers, seen(PUMP), every=False) == why


def test_a_route_is_met_by_any_machine_and_a_silence_by_every_one() -> None:
    pumps = matching.read({"machine": ["pump*"]})
    assert matching.matches(pumps, seen(PUMP, FAN), every=False)
    assert not matching.matches(pumps, seen(PUMP, FAN), every=True)
    assert matching.why_not(pumps, seen(PUMP, FAN), every=True) == (
        "1 of its 2 machines do not match machine pump*"
    )
    assert not matching.matches(pumps, seen(FAN), every=False)


def test_one_machine_has_to_meet_both_name_and_place() -> None:
    crossed = matching.read({"machine": ["pump*"], "location": ["hall 2"]})
    assert not matching.matches(crossed, seen(PUMP, FAN), every=False)


def test_an_alert_of_no_machine_meets_no_machine() -> None:
    anywhere = matching.read({"machine": ["*"]})
    assert not matching.matches(anywhere, seen(), every=True)
    assert not matching.matches(anywhere, seen(), every=False)
    assert matching.matches(matching.read({"severity": ["warning"]}), seen(), every=True)


SIGNS = st.text(alphabet="ab*?[.", max_size=12)


@given(pattern=SIGNS, text=SIGNS)
def test_patterns_mean_what_they_do_as_regular_expressions(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
    assert matching.is_like(text, pattern) == expected


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "Expected `object`"),
        ({"site": ["x"]}, "unknown field `site`"),
        ({"machine": "pump 7"}, "Expected `array`"),
        ({"machine": [7]}, "Expected `str`"),
        ({"machine": [""]}, "1 to 200 characters"),
        ({"machine": ["a\0"]}, "1 to 200 characters"),
        ({"location": ["x" * 201]}, "1 to 200 characters"),
        ({"machine": ["a"] * 201}, "200 values at most"),
        ({"severity": ["fatal"]}, "severity is one of normal, warning, critical, not fatal"),
        ({"alert_type": ["drift*"]}, "alert_type is one of"),
    ],
)
def test_what_can_match_nothing_is_refused(document: Any, said: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(said)) as refused:
        matching.read(document)
    assert refused.value.errors[0].loc[:2] == ("body", "matchers")


def test_matchers_are_stored_as_they_were_sent_without_what_is_empty() -> None:
    document = {"machine": ["pump*"], "severity": ["critical"]}
    assert matching.read(document | {"location": []}).document() == document
    assert str(matching.read(document)) == "machine pump*, severity critical"
    assert str(matching.read({})) == "every alert"


@pytest.mark.django_db
def test_an_alert_is_about_its_machine_and_a_fleet_alert_about_those_in_it(
    django_assert_num_queries: Any,
) -> None:
    single = AlertFactory.create()
    fleet = AlertFactory.create(fleet=True, severity="critical")
    joined = timezone.now()
    for name, left in (("b", None), ("a", None), ("c", joined)):
        model = ModelVersionFactory.create(machine=MachineFactory.create(name=name))
        AlertMember.objects.create(
            alert=fleet, machine=model.machine, model=model, joined_at=joined, left_at=left
        )
    with django_assert_num_queries(2):
        loaded = matching.load(Alert.objects.all())
        found = {pk: matching.matched(alert) for pk, alert in loaded.items()}
    machine = single.machine
    assert found[single.pk].machines == (Place(machine.pk, machine.name, "hall 1"),)
    assert [place.name for place in found[fleet.pk].machines] == ["a", "b"]
    assert matching.matched(loaded[fleet.pk], {"severity": "normal"}).severity == "normal"

    AlertMember.objects.update(left_at=joined)
    over = matching.load(Alert.objects.filter(pk=fleet.pk))[fleet.pk]
    assert [machine.name for machine in matching.machines(over)] == ["a", "b", "c"]
