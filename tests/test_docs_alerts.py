"""The guide to alerts: what it lets people send is accepted, and what it lists is what there is."""

from __future__ import annotations

import re

from django.db import connection
from rest_framework.test import APIClient

from modelperf.models import Alert
from tests import factories
from tests.api.test_alert_permissions import CALLERS, CALLS
from tests.test_docs import ROOT, requests_in

PAGE = (ROOT / "docs" / "alerts.md").read_text()


def test_examples_of_the_guide_are_accepted_in_their_order(api: APIClient) -> None:
    alert = factories.AlertFactory.create(severity="critical")

    answers = [
        api.generic(verb, address.replace("$ALERT", str(alert.pk)), body, content_type=form)
        for verb, address, form, body in requests_in(PAGE)
    ]

    assert {answer.status_code for answer in answers} == {200}
    alert.refresh_from_db()
    verbs = ["acknowledge", "snooze", "assign", "resolve", "reopen"]
    contexts = alert.events.exclude(pgh_context=None).order_by("pgh_id")
    assert [event.pgh_context["verb"] for event in contexts] == verbs
    assert (alert.state, alert.team.name, alert.comments.count()) == ("open", "operator", 1)


def test_guide_names_every_type_and_its_query_is_answered(db: None) -> None:
    alert = factories.AlertFactory.create(severity="critical")
    assert not [name for name in Alert.Type.values if f"`{name}`" not in PAGE]
    statement = re.search(r"^    SELECT .*?;", PAGE, re.MULTILINE | re.DOTALL)
    assert statement is not None

    with connection.cursor() as cursor:
        cursor.execute(statement[0])
        ((machine_name, severity, *_),) = cursor.fetchall()

    assert (machine_name, severity) == (alert.machine.name, "critical")


def test_guide_says_who_may_do_what_as_it_is_tried() -> None:
    """Each call is allowed to those whom the table allows it to."""
    section = PAGE.split("\n## Who may do what\n")[1]
    cells = [row[2:-2].split("|") for row in re.findall(r"^\| \w.*\|$", section, re.MULTILINE)]
    allowed = {
        cell[0].strip(): {
            who for who, word in zip(CALLERS[1:], cell[1:], strict=False) if "yes" in word
        }
        for cell in cells
    }
    said = {
        "GET alerts": "see alerts, their stories, silences",
        "POST alerts/bulk": "acknowledge, snooze, assign, resolve, reopen, comment",
        "POST silences": "set, change and end silences",
    }
    assert {call: allowed[row] for call, row in said.items()} == {
        call: CALLS[call][0] for call in said
    }
