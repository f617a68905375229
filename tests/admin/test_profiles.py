"""References and window profiles in the admin: listed, shown, never edited."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories

pytestmark = pytest.mark.django_db
REFERENCES, WINDOWS = "/admin/modelperf/featurereference/", "/admin/modelperf/windowprofile/"


@pytest.fixture
def desk(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def test_lists_name_feature_series_and_window(desk: Client) -> None:
    row = factories.WindowProfileFactory(day=0, parts={"a": "1", "b": "2"})
    machine = row.machine.name

    references, windows = (desk.get(url).content.decode() for url in (REFERENCES, WINDOWS))

    assert f"{machine} · baseline v1" in references
    assert f"{machine} · baseline v1" in windows
    assert 'field-n_parts">2<' in windows
    assert "load" in references
    assert desk.get(WINDOWS, {"q": "speed"}).content.decode().count(machine) == 0


def test_replaced_references_are_told_apart(desk: Client) -> None:
    factories.FeatureReferenceFactory(name="old", replaced_at=timezone.now(), replaced_by="a")
    factories.FeatureReferenceFactory(name="new")

    html = desk.get(REFERENCES, {"replaced_at__isempty": "1"}).content.decode()

    assert ">new<" in html
    assert ">old<" not in html


@pytest.mark.parametrize("url", [REFERENCES, WINDOWS])
def test_lists_need_the_same_queries_for_many_and_never_read_counts(desk: Client, url: str) -> None:
    factories.WindowProfileFactory()
    with CaptureQueriesContext(connection) as few:
        desk.get(url)
    factories.WindowProfileFactory.create_batch(4)
    with CaptureQueriesContext(connection) as many:
        desk.get(url)

    # session, user; count, rows with their machines
    assert len(few) == len(many) == 4
    assert not [q for q in many if '"profile"' in q["sql"]]


def test_rows_are_shown_and_not_edited(desk: Client) -> None:
    row = factories.WindowProfileFactory()
    for address in (f"{WINDOWS}{row.pk}/change/", f"{REFERENCES}{row.reference_id}/change/"):
        assert desk.get(address).status_code == 200
        assert desk.post(address, {"n": "0"}).status_code == 403
    assert desk.get(f"{WINDOWS}add/").status_code == 403
    assert desk.post(f"{WINDOWS}{row.pk}/delete/", {"post": "yes"}).status_code == 403
