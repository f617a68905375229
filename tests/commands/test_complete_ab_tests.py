"""`manage.py complete_ab_tests`: what it ends and what it prints."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from modelperf.models import ABRowState, ABTest
from modelperf.services import ab_tests_observations
from modelperf.services.ab_tests_observations import Observation
from tests.factories import ABTestFactory

pytestmark = pytest.mark.django_db


def run(*args: str) -> str:
    out = StringIO()
    call_command("complete_ab_tests", *args, stdout=out, skip_checks=True)
    return out.getvalue()


@pytest.fixture
def over() -> ABTest:
    """Return a test that has a winner and whose time is over."""
    test = ABTestFactory.create(test_name="old or new")
    rows = [Observation(unit=str(n), loss_a=9.0 + n % 3, loss_b=1.0 + n % 5) for n in range(200)]
    ab_tests_observations.observe(test=test, observations=rows, by="tests")
    now = timezone.now()
    ABTest.objects.filter(pk=test.pk).update(
        test_start=now - timedelta(hours=2), test_end=now - timedelta(hours=1)
    )
    return test


def test_nothing_to_end_is_said() -> None:
    running = ABTestFactory.create()
    assert run() == "No test to end.\n"
    assert json.loads(run("--format", "json")) == []
    assert ABTest.objects.running().get() == running


def test_ended_tests_are_a_table(over: ABTest) -> None:
    head, row = run().splitlines()
    assert head.split() == ["machine", "type", "test", "versions", "winner", "confidence"]
    for text in (over.machine.name, "baseline", "old or new", "v1 · v2", "v2", "99.9%"):
        assert text in row
    over.refresh_from_db()
    assert over.winner_model_id == over.model_b_id
    assert over.metadata["completed_by"] == "command:complete_ab_tests"
    assert run() == "No test to end.\n"


def test_ended_tests_are_json(over: ABTest) -> None:
    nobody = ABTestFactory.create(
        test_start=timezone.now() - timedelta(days=2), test_end=timezone.now() - timedelta(days=1)
    )
    first, second = json.loads(run("--format", "json"))
    assert (first["test_id"], first["winner"]) == (str(nobody.pk), "no_winner")
    assert (second["test_id"], second["winner"]) == (str(over.pk), "model_b")
    assert second["outcome"] == "model_b"
    assert "Promote v2" in second["recommendation"]


def test_a_test_that_cannot_be_ended_stops_no_other(over: ABTest) -> None:
    broken = ABTestFactory.create(test_name="broken", test_start=over.test_start)
    rows = [Observation(unit="u", loss_a=1.0, loss_b=1.0)]
    ab_tests_observations.observe(test=broken, observations=rows, by="tests")
    now = timezone.now()
    ABTest.objects.filter(pk=broken.pk).update(
        test_start=now - timedelta(days=2), test_end=now - timedelta(days=1)
    )
    ABRowState.objects.filter(test=broken).update(fold={})
    out = StringIO()
    with pytest.raises(CommandError, match="“broken”") as caught:
        call_command("complete_ab_tests", stdout=out, skip_checks=True)
    assert caught.value.returncode == 1
    assert "old or new" in out.getvalue()
    broken.refresh_from_db()
    assert broken.test_status == "running"


def test_an_end_without_winner_has_none_in_the_table() -> None:
    now = timezone.now()
    ABTestFactory.create(test_start=now - timedelta(days=2), test_end=now - timedelta(days=1))
    assert run().splitlines()[1].split()[-2:] == ["none", "0.0%"]
