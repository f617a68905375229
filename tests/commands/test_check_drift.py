"""`manage.py check_drift`: a process of its own, as cron starts it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from django.db import connection

from modelperf.models import (
    Alert,
    CheckRun,
    DriftState,
    ModelVersion,
    StoredVerdict,
    TrainingRun,
)
from modelperf.services import checks, metrics, policies
from modelperf.services.database import execute
from tests.factories import ABTestFactory, ModelVersionFactory, TrainingRunFactory
from tests.services.builders import START, noisy, series

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
WAIT = 120


@pytest.fixture
def models() -> list[ModelVersion]:
    """Return a stable model and one that falls, which nobody has judged yet."""
    models = ModelVersionFactory.create_batch(2, is_active=True)
    for model, fall_at in zip(models, (None, 45), strict=True):
        metrics.record_batch(evaluations=series(model, noisy(1, 60, fall_at=fall_at)), by="a")
    return models


def environment() -> dict[str, str]:
    """Return the environment in which a process finds the tests' database."""
    connection.ensure_connection()
    info = connection.connection.info
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": f"postgres:///{info.dbname}",
        "PGHOST": info.host,
        "PGPORT": str(info.port),
        "PGUSER": info.user,
        "PGPASSWORD": info.password,
    }


def start(*args: str, **streams: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen(
        [sys.executable, "manage.py", "check_drift", *args],
        cwd=ROOT,
        env=environment(),
        text=True,
        **pipes,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return how a process ended: its exit code, what it said, and its errors and log."""
    try:
        out, err = process.communicate(timeout=WAIT)
    finally:
        process.kill()
    return process.returncode, out, err


def run(*args: str) -> tuple[int, str, str]:
    return ended(start(*args))


def told(*args: str) -> dict[str, Any]:
    """Return the JSON of a check, which is all that stands on standard output."""
    code, out, err = run(*args, "--format", "json")
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_a_table_tells_of_alerts_and_a_sentence_of_all(models: list[ModelVersion]) -> None:
    code, out, err = run()
    assert code == 0, err
    head, row, sentence = out.splitlines()
    assert head.split() == [
        *("machine", "type", "version", "status", "metric"),
        *("since", "Z", "effect", "alert"),
    ]
    for text in (models[1].machine.name, "baseline", "degraded", "mae", "2026-02-15", "opened"):
        assert text in row
    assert sentence.startswith("2 model versions checked, 2 judged anew, in ")
    assert "1 stable" in sentence
    assert "Alerts: 1 opened, 0 cleared, 0 within" in sentence
    assert Alert.objects.unresolved().get().machine_id == models[1].machine_id
    assert "Traceback" not in err


def test_json_is_the_whole_report(models: list[ModelVersion]) -> None:
    document = told()
    run = CheckRun.objects.get()
    assert (document["status"], document["has_drift"]) == ("done", True)
    assert document["check_run_id"] == str(run.pk)
    assert (document["n_series"], document["n_rejected"], document["n_judged"]) == (2, 1, 2)
    looks = {look["model_id"]: look for look in document["looks"]}
    fallen = looks[str(models[1].pk)]
    assert (fallen["status"], fallen["decisions"]) == ("degraded", ["opened"])
    assert 0 < fallen["p_value"] <= fallen["q_value"] <= 0.05
    assert looks[str(models[0].pk)]["decisions"] == []
    assert run.started_by == "command:check_drift"


def test_the_scope_is_a_type_a_machine_a_moment(models: list[ModelVersion]) -> None:
    other = ModelVersionFactory.create(is_active=True, model_type="forecast_day")
    one = told("--model-type", "forecast_day", "--dry-run")
    assert [look["model_id"] for look in one["looks"]] == [str(other.pk)]
    one = told("--machine", str(models[0].machine_id), "--dry-run")
    assert [look["model_id"] for look in one["looks"]] == [str(models[0].pk)]
    then = START + timedelta(days=40)
    document = told("--as-of", then.isoformat(), "--model-type", "baseline")
    assert {look["status"] for look in document["looks"]} == {"stable"}
    assert document["check_run_id"] is None
    assert not CheckRun.objects.exists()
    assert not DriftState.objects.exists()


def test_a_dry_run_says_what_would_be_and_stores_nothing(models: list[ModelVersion]) -> None:
    code, out, _ = run("--dry-run")
    assert code == 0
    assert "would open" in out
    assert out.rstrip().endswith("Nothing was stored.")
    assert not Alert.objects.exists()
    assert not CheckRun.objects.exists()
    assert not StoredVerdict.objects.exists()


def test_a_check_of_the_fleet_is_followed_by_retraining(models: list[ModelVersion]) -> None:
    fallen = models[1]
    policies.set_policy(
        model_type="baseline",
        values={"retrain_automatically": True, "trainer": {"kind": "external"}},
        by="a",
    )
    document = told()
    asked = TrainingRun.objects.get()
    followed = document["retraining"]
    (triggered,) = followed["triggered"]
    assert (triggered["training_job_id"], triggered["machine_id"]) == (
        str(asked.pk),
        str(fallen.machine_id),
    )
    assert (asked.trigger_type, asked.alert) == ("drift_detected", Alert.objects.unresolved().get())
    assert (followed["decided"], followed["resolved"], followed["waiting"]) == ([], [], [])

    waiting = told()["retraining"]["waiting"]
    place = {"machine_id": str(fallen.machine_id), "model_type": "baseline"}
    assert waiting == [place | {"reason": "A training is under way."}]
    _, out, _ = run()
    line = f"Retraining waits: {fallen.machine.name} · baseline: A training is under way."
    assert out.splitlines()[-1] == line
    assert TrainingRun.objects.count() == 1


def test_retraining_that_was_asked_for_says_what_takes_it(models: list[ModelVersion]) -> None:
    values = {"retrain_automatically": True, "trainer": {"kind": "external"}}
    policies.set_policy(model_type="baseline", values=values, by="a")
    lines = run()[1].splitlines()
    run_id = TrainingRun.objects.get().pk
    assert lines[-2:] == [
        f"Retraining asked for: {models[1].machine.name} · baseline ({run_id}).",
        "A worker takes them; without one, manage.py run_training does.",
    ]


@pytest.mark.parametrize("part", ["--dry-run", "--as-of", "--machine", "--model-type"])
def test_a_part_of_a_check_is_not_followed(models: list[ModelVersion], part: str) -> None:
    values = {"retrain_automatically": True, "trainer": {"kind": "external"}}
    policies.set_policy(model_type="baseline", values=values, by="a")
    given = {
        "--as-of": ["2026-03-01T00:00:00Z"],
        "--machine": [str(models[1].machine_id)],
        "--model-type": ["baseline"],
    }
    assert told(part, *given.get(part, []))["retraining"] is None
    assert not TrainingRun.objects.exists()


def test_a_test_that_is_over_is_decided(models: list[ModelVersion]) -> None:
    policies.set_policy(model_type="baseline", values={"after_training": "test"}, by="a")
    served = models[0]
    challenger = ModelVersionFactory.create(machine=served.machine)
    test = ABTestFactory.create(
        machine=served.machine,
        model_a=served,
        model_b=challenger,
        training_run=TrainingRunFactory.create(
            machine=served.machine,
            training_status="completed",
            training_end=START,
            training_start=START,
            model=challenger,
            model_version=challenger.model_version,
        ),
        test_start=START,
        test_end=START + timedelta(days=1),
    )
    (decided,) = told()["retraining"]["decided"]
    test.refresh_from_db()
    assert (decided["test_id"], decided["decision"]) == (str(test.pk), "no_winner")
    assert test.decision == "no_winner"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--machine", "pump-1"], "--machine"),
        (["--as-of", "2026-01-01T00:00:00"], "--as-of"),
        (["--as-of", "yesterday"], "RFC 3339 with an offset, like 2026-01-01T00:00:00Z"),
        (["--as-of", "2026-02-30T00:00:00Z"], "--as-of"),
        (["--format", "xml"], "--format"),
        (["--loud"], "--loud"),
    ],
)
def test_wrong_arguments_are_exit_2(args: list[str], says: str) -> None:
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_an_unknown_machine_is_exit_1(models: list[ModelVersion]) -> None:
    unknown = str(uuid.uuid4())
    code, out, err = run("--machine", unknown)
    assert (code, out) == (1, "")
    assert f"There is no machine {unknown}." in err
    assert "Traceback" not in err
    assert not CheckRun.objects.exists()


def test_an_unknown_model_type_is_exit_1(models: list[ModelVersion]) -> None:
    code, out, err = run("--model-type", "baselin")
    assert (code, out) == (1, "")
    assert "There is no series of the model type baselin." in err
    ModelVersionFactory.create(is_active=True, model_type="forecast_day")
    machine = models[0].machine
    code, _, err = run("--model-type", "forecast_day", "--machine", str(machine.pk))
    assert code == 1
    assert f"forecast_day on the machine {machine.name}" in err


def test_versions_that_do_not_serve_are_counted_apart(models: list[ModelVersion]) -> None:
    challenger = ModelVersionFactory.create(machine=models[0].machine)
    metrics.record_batch(evaluations=series(challenger, noisy(3, 40)), by="a")
    _, out, _ = run()
    sentence = out.splitlines()[-1]
    assert sentence.startswith("3 model versions checked, 3 judged anew, in ")
    assert "1 stable, 1 degraded, 1 not active." in sentence


def test_a_change_of_what_should_be_zero_is_told_in_its_unit() -> None:
    model = ModelVersionFactory.create(is_active=True)
    values = [round(1000 * (value - 1), 3) for value in noisy(1, 60, fall_at=45)]
    metrics.record_batch(evaluations=series(model, values, metric="bias"), by="a")
    _, out, _ = run("--dry-run")
    row = out.splitlines()[1]
    assert "degraded" in row
    assert "%" not in row


def test_a_fleet_alert_has_a_line_of_its_own() -> None:
    for seed in range(6):
        model = ModelVersionFactory.create(is_active=True)
        metrics.record_batch(evaluations=series(model, noisy(seed, 60, fall_at=45)), by="a")
    _, out, _ = run("--dry-run")
    assert "Fleet alert: baseline: mae drift detected on machines together." in out
    _, out, _ = run()
    (line,) = [line for line in out.splitlines() if line.startswith("Fleet alert: ")]
    assert line == f"Fleet alert: {Alert.objects.get(machine=None).alert_message}"


def test_drift_is_exit_3_only_where_an_alert_is_due(models: list[ModelVersion]) -> None:
    stable, fallen = (str(model.machine_id) for model in models)
    assert run("--fail-on-drift", "--dry-run", "--machine", stable)[0] == 0
    assert run("--fail-on-drift", "--dry-run", "--machine", fallen)[0] == 3
    assert run("--fail-on-drift")[0] == 3
    assert run("--fail-on-drift")[0] == 3  # the alert goes on
    assert run()[0] == 0


def test_what_stays_within_the_budget_is_no_failure() -> None:
    model = ModelVersionFactory.create(is_active=True)
    policies.set_policy(model_type="baseline", values={"q": 1e-9}, by="a")
    values = [*noisy(2, 50), *noisy(3, 10, level=1.35)]
    metrics.record_batch(evaluations=series(model, values), by="a")
    document = told("--dry-run")
    (look,) = document["looks"]
    assert (look["status"], look["decisions"]) == ("degraded", ["above_cut_off"])
    assert not document["has_drift"]
    assert run("--fail-on-drift")[0] == 0
    assert not Alert.objects.exists()


def test_series_without_evaluations_are_no_drift(models: list[ModelVersion]) -> None:
    policies.set_policy(model_type="baseline", values={"expected_cadence_seconds": 60}, by="a")
    code, out, _ = run("--machine", str(models[0].machine_id), "--fail-on-drift")
    assert code == 0
    assert "stale" in out


@contextmanager
def lock_held() -> Iterator[None]:
    """Hold the lock of checks from another connection, as a check that runs does."""
    info = connection.connection.info
    with psycopg.connect(info.dsn, password=info.password, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [checks._LOCK])
        yield


def test_while_another_check_runs_nothing_is_done(models: list[ModelVersion]) -> None:
    with lock_held():
        code, out, err = run("--fail-on-drift")
        assert (code, out) == (0, "Another check is running. Nothing was done.\n")
        assert "Traceback" not in err
        code, out, _ = run("--format", "json")
        assert code == 0
        assert json.loads(out) == {"status": "busy", "detail": "Another check is running."}
        assert not CheckRun.objects.exists()
        assert not DriftState.objects.exists()
    assert told()["status"] == "done"


def test_of_two_at_once_each_works_or_says_that_it_does_not(models: list[ModelVersion]) -> None:
    both = [start("--format", "json") for _ in range(2)]
    answers = []
    for process in both:
        code, out, err = ended(process)
        assert code == 0, err
        answers.append(json.loads(out))
    worked = [answer for answer in answers if answer["status"] == "done"]
    assert worked
    assert {answer["status"] for answer in answers} <= {"done", "busy"}
    assert CheckRun.objects.count() == len(worked)
    assert sum(answer["n_judged"] for answer in worked) == 2
    assert Alert.objects.count() == 1


def test_a_killed_check_leaves_nothing_half_written(models: list[ModelVersion]) -> None:
    info = connection.connection.info
    with psycopg.connect(info.dsn, password=info.password) as other, start() as process:
        # A check is stored after the states and the alerts: there it waits, and is killed.
        other.execute("LOCK TABLE model_check_runs IN SHARE MODE")
        try:
            _until_blocked_by(other.info.backend_pid)
        finally:
            process.send_signal(signal.SIGKILL)
        code, out, _ = ended(process)
        assert (code, out) == (-signal.SIGKILL, "")
    assert not CheckRun.objects.exists()
    assert not DriftState.objects.exists()
    assert not Alert.objects.exists()
    document = told()
    assert (document["status"], document["n_judged"], document["n_skipped"]) == ("done", 2, 0)
    assert Alert.objects.count() == 1


def _until_blocked_by(pid: int) -> None:
    """Return when a process waits for a lock that another one holds."""
    pause = Event()
    for _ in range(WAIT * 20):
        waiting = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
        if execute(waiting, [pid]).fetchone():
            return
        pause.wait(0.05)
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("on_terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(
    models: list[ModelVersion], on_terminal: bool
) -> None:
    if not on_terminal:
        _, out, err = run()
        assert "Checking" not in out + err
        return
    leader, follower = pty.openpty()
    with start(stderr=follower) as process:
        os.close(follower)
        shown = _read_to_end(leader)
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(WAIT) == 0
    assert "Checking" in shown
    assert "2/2" in shown
    assert "Checking" not in out


def _read_to_end(terminal: int) -> str:
    """Return what is written to a terminal until the last writer has gone."""
    shown = b""
    with suppress(OSError):  # which is how a terminal says that nobody writes any more
        while more := os.read(terminal, 65_536):
            shown += more
    os.close(terminal)
    return shown.decode()
