"""Training runs in the admin, and asking for them from the list of machines."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from modelperf.models import Machine, TrainingRun
from tests import factories
from tests.pages import worlds

RUNS, MACHINES = "/admin/modelperf/trainingrun/", "/admin/modelperf/machine/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def staff(user: User, *permissions: str) -> Client:
    """Return a browser of a member of staff who has these permissions."""
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(desk: Client, run: TrainingRun) -> str:
    html = desk.get(f"{RUNS}{run.pk}/change/").content.decode()
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_list_tells_what_each_run_does(desk: Client) -> None:
    factories.TrainingRunFactory.create(
        machine__name="pump 7",
        running=True,
        attempt=2,
        trainer="command",
        progress_percent=40,
        progress_message="fitting",
        triggered_by="user:ada",
    )
    html = desk.get(RUNS).content.decode()
    for told in ("Running", "pump 7 · baseline", "command", "40 %, fitting", "Manual, user:ada"):
        assert told in html


def test_the_list_needs_the_same_queries_for_one_run_and_for_many(desk: Client) -> None:
    factories.TrainingRunFactory.create()
    with CaptureQueriesContext(connection) as few:
        desk.get(RUNS)
    factories.TrainingRunFactory.create_batch(5, failed=True)

    with CaptureQueriesContext(connection) as many:
        desk.get(RUNS)

    # session, user; values of two filters; count, rows with their machines
    assert len(few) == len(many) == 6


def test_a_run_at_work_tells_of_its_lease_to_the_second(desk: Client) -> None:
    now = timezone.now()
    run = factories.TrainingRunFactory.create(
        running=True,
        attempt=1,
        lease_id=uuid.uuid4(),
        heartbeat_at=now - timedelta(seconds=70),
        leased_until=now + timedelta(minutes=20),
        training_start=now - timedelta(minutes=5),
    )
    text = page(desk, run)
    assert re.search(r"Last heard of: 7\d s ago, ", text)
    assert re.search(r"Given up: in 20 min, ", text)
    assert "Expected to end: no estimate: no past run" in text
    assert re.search(r"Started: .* UTC, 5 min ago", text)
    assert str(run.lease_id) not in text


def test_a_run_that_waits_has_not_started(desk: Client) -> None:
    run = factories.TrainingRunFactory.create(retry_at=timezone.now() + timedelta(minutes=10))
    text = page(desk, run)
    assert "Started: –" in text
    assert re.search(r"Tried again: in (9|10) min", text)


def test_a_completed_run_leads_to_what_belongs_to_it(desk: Client) -> None:
    machine = worlds.looped()
    run = TrainingRun.objects.get()
    html = desk.get(f"{RUNS}{run.pk}/change/").content.decode()
    test = run.ab_tests.get()
    for name, key in (
        ("machine", machine.pk),
        ("modelversion", run.model_id),
        ("alert", run.alert_id),
        ("abtest", test.pk),
    ):
        assert f'href="/admin/modelperf/{name}/{key}/change/"' in html
    text = page(desk, run)
    assert "Validation metrics: mae 1" in text
    assert "Data window: 2 Mar 2025 – 1 Mar 2026" in text
    assert (
        f'href="{RUNS}{run.pk}/change/"'
        in desk.get(f"/admin/modelperf/abtest/{test.pk}/change/").content.decode()
    )


def test_what_went_wrong_is_for_those_who_may_change_runs_or_train(user: User) -> None:
    run = factories.TrainingRunFactory.create(
        failed=True, error_traceback="File secret.py", training_log="loading /srv/data"
    )
    view = page(staff(user, "view_trainingrun"), run)
    assert "Failed" in view
    for told in ("no data", "secret.py", "/srv/data", "Error message", "traceback", "Training log"):
        assert told not in view
    for permissions in (("change_trainingrun",), ("view_trainingrun", "add_trainingrun")):
        change = page(staff(User.objects.get(pk=user.pk), *permissions), run)
        for told in ("no data", "secret.py", "/srv/data"):
            assert told in change


def test_the_list_reads_neither_log_nor_traceback(desk: Client) -> None:
    factories.TrainingRunFactory.create(failed=True, error_traceback="x", training_log="y")
    with CaptureQueriesContext(connection) as queries:
        desk.get(RUNS)
    rows = [q["sql"] for q in queries if '"training_start"' in q["sql"]]
    assert rows
    assert not any("training_log" in sql or "error_traceback" in sql for sql in rows)


def test_unfinished_runs_are_cancelled_from_the_list(desk: Client, superuser: User) -> None:
    run, over = (
        factories.TrainingRunFactory.create(),
        factories.TrainingRunFactory.create(failed=True),
    )
    chosen = {"action": "cancel", "_selected_action": [run.pk, over.pk]}
    html = desk.post(RUNS, chosen, follow=True).content.decode()
    assert "1 cancelled." in html
    assert "The training run is failed already." in html
    run.refresh_from_db()
    assert run.training_status == "cancelled"
    assert run.metadata == {"cancelled_by": f"user:{superuser.username}"}


# --- asking for trainings from the list of machines -----------------------------------------


@pytest.fixture
def pump() -> Machine:
    """Return a machine with two series, which others train."""
    machine = factories.MachineFactory.create(name="pump 7")
    for model_type in ("baseline", "forecast"):
        factories.ModelVersionFactory.create(machine=machine, model_type=model_type)
    return machine


def retrain(desk: Client, *machines: Machine, **fields: str) -> str:
    chosen = {"action": "retrain", "_selected_action": [one.pk for one in machines]} | fields
    return desk.post(MACHINES, chosen, follow=True).content.decode()


def test_retrain_asks_which_models_and_why(desk: Client, pump: Machine) -> None:
    retired = factories.ModelVersionFactory.create(
        machine__name="old", machine__is_active=False
    ).machine
    html = retrain(desk, pump, retired)
    assert "A training of these series will be asked for in your name" in html
    assert "<li>pump 7 · baseline</li><li>pump 7 · forecast</li>" in html
    assert "old · baseline is retired." in html
    assert '<option value="forecast">forecast</option>' in html
    assert "This field is required." in retrain(desk, pump, confirm="Retrain", reason=" ")
    assert not TrainingRun.objects.exists()


def test_retrain_asks_for_all_models_or_those_of_a_type(
    desk: Client, superuser: User, pump: Machine
) -> None:
    html = retrain(desk, pump, confirm="Retrain", reason="new bearing", model_type="forecast")
    assert "1 training asked for." in html
    run = TrainingRun.objects.get()
    assert (run.model_type, run.reason) == ("forecast", "new bearing")
    assert (run.trigger_type, run.triggered_by) == ("manual", f"user:{superuser.username}")
    assert LogEntry.objects.get().object_id == str(pump.pk)
    html = retrain(desk, pump, confirm="Retrain", reason="again", model_type="")
    assert "1 training asked for." in html
    assert (
        "Pump 7 · forecast: A training of this series is already in progress: pending as " in html
    )
    assert TrainingRun.objects.count() == 2


def test_retrain_of_a_retired_machine_is_refused(desk: Client, pump: Machine) -> None:
    Machine.objects.update(is_active=False)
    html = retrain(desk, pump, confirm="Retrain", reason="x")
    assert "Return it to service to train models." in html
    assert not TrainingRun.objects.exists()


def test_retrain_needs_the_permission_to_train(user: User, pump: Machine) -> None:
    client = staff(user, "view_machine", "change_machine")
    assert b'value="retrain"' not in client.get(MACHINES).content
    retrain(client, pump, confirm="Retrain", reason="x")
    assert not TrainingRun.objects.exists()
    client = staff(User.objects.get(pk=user.pk), "view_machine", "add_trainingrun")
    retrain(client, pump, confirm="Retrain", reason="x")
    assert TrainingRun.objects.count() == 2
