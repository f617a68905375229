"""The page of one alert: its ways out, the silence over it, its drawing, its words."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from modelperf.admin.alerts_words import Told, condition
from modelperf.models import Alert
from modelperf.services import silences
from tests import factories
from tests.admin.test_alert_page import LIST, address_of, browser_of, html_of, person, text_of
from tests.pages import worlds

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(superuser: User) -> Client:
    """Return a browser in which everything may be done."""
    return browser_of(superuser)


def test_a_collapse_is_not_smoothed_into_a_slide_and_no_label_is_cut(desk: Client) -> None:
    worlds.series([1e6] * 30 + [2_140_000.0] * 3, metric="rmse", only=True)
    alert = Alert.objects.get()
    alert.alert_details |= {"metric": "rmse"}
    alert.save()

    html = html_of(desk, alert)

    (path,) = re.findall(r'class="line own" d="M([^"]*)"', html)
    heights = [point.split()[1] for point in path.split("L")]
    assert len(set(heights)) == 2
    assert ">now 2,140,000<" in html
    ((width, longest),) = {
        (int(width), max(re.findall(r">([^<]+)</text>", texts), key=len))
        for width, texts in re.findall(r'class="ends" width="(\d+)"[^>]*>(.*?)</svg>', html)
    }
    assert width >= 6 * len(longest)


def test_a_fleet_alert_names_what_it_took_over_and_the_other_way_round(desk: Client) -> None:
    now = timezone.now()
    fleet = factories.AlertFactory.create(fleet=True, model_type="wind", alert_message="Fleet.")
    model = factories.ModelVersionFactory.create()
    key = f"series:{model.machine_id}:wind:drift_detected:rmse"
    fleet.members.create(machine=model.machine, model=model, condition_key=key, joined_at=now)
    taken = {"model": model, "resolved": True, "model_type": "wind"}
    one = factories.AlertFactory.create(
        condition_key=key.replace("drift_detected", "performance_degradation"),
        resolution_action="in_fleet_alert",
        alert_message="Its own.",
        resolved_at=now,
        **taken,
    )
    factories.AlertFactory.create(
        condition_key=key,
        resolution_action="in_fleet_alert",
        resolved_at=now - timedelta(days=9),
        **taken,
    )

    html = html_of(desk, one)
    assert "A fleet alert took it over just now." in html
    found = r'class="wide"><a [^>]*>([^<]*)</a></td><td>([^<]*)<'
    assert ("Fleet.", "Took this one over") in re.findall(found, html)
    assert re.findall(found, html_of(desk, fleet)) == [("Its own.", "Taken over by this one")]


@pytest.mark.parametrize(
    ("name", "message", "told"),
    [
        ("a: b", "a: b · wind v1: no evaluation: late.", "No evaluation: late."),
        ("a · wind v1: b", "a · wind v1: b · wind v1: R² is worse.", "R² is worse."),
        ("new name", "old name · wind v1: R² is worse.", "R² is worse."),
        ("pump", "pump · wind: the test “a: b” is over.", "The test “a: b” is over."),
        ("pump", "Something: odd.", "Something: odd."),
    ],
)
def test_the_place_is_left_out_of_the_condition_whatever_a_machine_is_called(
    name: str, message: str, told: str
) -> None:
    alert = factories.AlertFactory.create(
        model__machine__name=name, model_type="wind", alert_message=message
    )

    assert condition(alert) == Told(name, "wind v1", told)
    assert site.get_model_admin(Alert).condition(alert) == told  # of the list


def test_the_silence_in_force_is_told_and_a_new_one_is_filled_in(desk: Client) -> None:
    alert = factories.AlertFactory.create(model__machine__name="pump é")
    assert "Silenced until" not in html_of(desk, alert)
    silence = silences.create(
        matchers={"machine": ["pump*"]},
        reason="Maintenance.",
        owner="Anna",
        ends_at=timezone.now() + timedelta(hours=1),
        by="user:anna",
    )

    html, bo = html_of(desk, alert), text_of(browser_of(person("bo")), alert)

    assert reverse("admin:modelperf_silence_change", args=[silence.pk]) in html
    assert re.search(r"Silenced until [^<]* UTC by Anna</a>: Maintenance\.", html)
    assert "by Anna. " in bo
    assert "Maintenance" not in bo
    assert "Silence…" not in bo
    (address,) = re.findall(r'href="([^"]*)">Silence…', html)
    form = desk.get(address).context["adminform"].form
    assert form["matchers"].initial == {
        "alert_type": ["drift_detected"],
        "model_type": ["baseline"],
        "machine": ["pump é"],
    }
    for nonsense in ("5", "{", '{"machine": 5}'):
        asked = {"matchers": nonsense}
        shown = desk.get(reverse("admin:modelperf_silence_add"), asked)
        assert shown.context["adminform"].form["matchers"].initial == {}


def test_the_list_is_found_again_as_it_was_filtered(desk: Client) -> None:
    alert = factories.AlertFactory.create()
    kept = "_changelist_filters=life%3Dopen%26severity%3Dwarning"

    html = desk.get(f"{address_of(alert)}?{kept}").content.decode()

    way = f"{LIST}?life=open&amp;severity=warning"
    assert f'<a href="{way}">Alerts</a>' in html
    assert html.count(f'action="{way}"') == 2
    said = {"_selected_action": alert.pk, "page": alert.pk, "comment": "Seen."}
    response = desk.post(way.replace("&amp;", "&"), said)
    assert response["Location"] == f"{address_of(alert)}?{kept}"


@pytest.mark.parametrize("kind", ["data_drift", "evaluation_missing"])
def test_what_is_seen_on_the_series_page_leads_there_first(desk: Client, kind: str) -> None:
    alert = factories.AlertFactory.create(alert_type=kind)

    (first,) = re.findall(r'class="verb next"[^>]*>([^<]*)<', html_of(desk, alert))

    assert first == "Series page"
