"""The loop on real readings: a change is found, trained on, tested and settled, by itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from modelperf.demo import figures
from modelperf.demo.load import shift_of
from modelperf.demo.meters import CHANGED_ON, MODEL_TYPE, REPLAYED
from modelperf.demo.readings import midnight
from modelperf.demo.replay import replay, replayed_machine
from modelperf.demo.story import Story
from modelperf.models import ABTest, Alert, ModelActivation, ModelVersion, TrainingRun
from modelperf.services import ab_tests, checks, retraining, training

pytestmark = pytest.mark.django_db

WORKER = "worker"


@dataclass
class Played:
    """What was told on which day of the data, until the loop came to rest."""

    told: list[tuple[date, str]] = field(default_factory=list)

    def day_of(self, beginning: str) -> date:
        """Return the day on which the first line that begins so was told."""
        return next(day for day, line in self.told if line.startswith(beginning))


def work() -> None:
    """Do what a worker's periodic jobs do."""
    checks.run(by=WORKER)
    ab_tests.complete_expired(by=WORKER)
    # The load has trained a moment ago: the cool-down of a minute is over by then.
    retraining.follow(by=WORKER, now=timezone.now() + timedelta(minutes=2))
    training.run_pending(by=WORKER)


def play(*, lag: int) -> Iterator[tuple[date, str]]:
    """Replay day by day until a version is promoted; the worker looks after each `lag` days."""
    story = Story(replayed_machine())
    for n_days, step in enumerate(replay(), start=1):
        if n_days % lag == 0:
            work()
        news = story.news()
        yield from ((date.fromisoformat(step[-1].data_day), line) for line in news)
        if any(" promoted " in line for line in news):
            return


def of_series(model):
    return model.objects.filter(machine_id=REPLAYED.machine_id, model_type=MODEL_TYPE)


def test_a_change_that_is_found_ends_in_a_better_version_without_anyone_in_between(demo):
    played = Played(list(play(lag=1)))
    shift = shift_of(replayed_machine())

    alert = of_series(Alert).get()
    assert (alert.alert_type, alert.model_version) == ("drift_detected", 1)
    found = played.day_of("Alert: ")
    changed = date.fromisoformat(alert.alert_details["changed_at"][:10]) - shift
    assert abs((changed - CHANGED_ON).days) <= 21

    first, run = of_series(TrainingRun).order_by("created_at")
    assert (run.trigger_type, run.triggered_by) == ("drift_detected", "system:retraining")
    assert run.alert == alert
    assert run.reason in played.told[0][1]  # as it was when it was found
    assert (run.training_status, run.model_version) == ("completed", 2)
    assert (run.training_data_start - shift).astimezone(REPLAYED.zone).date() == changed
    assert run.training_data_end == midnight(found + timedelta(days=1), REPLAYED) + shift
    assert run.training_samples == (found - changed).days * 24 + 23  # less an hour in March
    assert first.triggered_by == "demo"

    test = of_series(ABTest).get()
    assert (test.training_run, test.test_start) == (run, run.training_data_end)
    assert test.winner_model == test.model_b == run.model
    assert (test.decision, test.decided_by) == ("promote_b", "system:retraining")
    assert test.evidence["metric"] == "rmse"
    days_after = (played.day_of("Version 2 promoted") - found).days
    assert test.evidence["n"] == days_after == test.evidence["decided_at"]

    assert (alert.state, alert.resolution_action) == ("resolved", "retrained_model")
    active = ModelVersion.objects.active().get(
        machine_id=REPLAYED.machine_id, model_type=MODEL_TYPE
    )
    assert active == run.model
    kinds = of_series(ModelActivation).order_by("activated_at").values_list("kind", "model_version")
    assert list(kinds) == [("activated", 1), ("promoted", 2)]

    # With what the load has found, that is two of the four known changes.
    hits = figures.hits()
    assert sum(days is not None for days in hits.values()) == 2
    page = Path(settings.BASE_DIR, "docs", "demo.md").read_text()
    counts = sorted(days for days in hits.values() if days is not None)
    words = " ".join(page.split())
    assert f"within three weeks, after {' and '.join(map(str, counts))} days" in words
    for day in (found, changed, played.day_of("Version 2 promoted")):
        assert f"{day}" in page
    assert f"{days_after} days" in words
    assert f"{run.training_samples:,} readings" in words
