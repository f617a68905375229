"""The page of an A/B test: where it stands, how many rows it has, what the looks have seen."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from modelperf.services import ab_tests_observations
from modelperf.services.ab_tests_observations import Observation
from tests.factories import ABTestFactory

pytestmark = pytest.mark.django_db
TESTS = "/admin/modelperf/abtest/"


@pytest.fixture
def desk() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ada", password="a-long-password-0"))
    return client


def test_a_test_with_observations_shows_them(desk: Client) -> None:
    test = ABTestFactory.create()
    rows = [Observation(unit=str(n), loss_a=9.0 + n % 3, loss_b=1.0 + n % 5) for n in range(150)]
    ab_tests_observations.observe(test=test, observations=rows, by="tests")

    page = desk.get(f"{TESTS}{test.pk}/change/").content.decode()

    assert "150 · 150 as pairs" in page
    assert "after 150 rows: 7 (" in page
    assert "after 50 rows: 6.98, p = 1<" in page
    assert "Promote v2: its loss is better on 150 rows" in page


def test_a_test_without_observations_says_so(desk: Client) -> None:
    page = desk.get(f"{TESTS}{ABTestFactory.create().pk}/change/").content.decode()
    assert "none" in page
    assert "No data" in page
