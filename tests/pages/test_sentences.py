"""Verdicts in words, one for each state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from modelperf.models import DriftState, ModelPerformanceMetric, ModelVersion
from modelperf.pages import verdicts
from modelperf.pages.metric_names import named
from modelperf.pages.sentences import Sentence, sentence
from modelperf.pages.verdicts import Verdict
from modelperf.services.policies import PolicyValues

NOW = timezone.now()
DAY = timedelta(days=1)
CHANGE = {"rule": "change_point", "peak_statistic": 5.1, "threshold": 3.9}


def judged(status: str, *, metric: str = "mae", kind: str = "loss", **stored: Any) -> ModelVersion:
    """Return a version with a stored verdict; nothing touches the database."""
    version = ModelVersion(model_version=2, model_type="baseline")
    document = {
        "rule": None,
        "statistic": 2.5,
        "threshold": 3.9,
        "effect": 0.25,
        "baseline": 2.0,
        "current": 2.5,
        "changed_at": "2017-01-01T00:00:00Z",
        "changed_after": "2016-12-30T00:00:00Z",
        "changed_before": "2017-01-02T00:00:00Z",
        "n_evaluations": 194,
        "needed": 0,
        "conditions": [],
    }
    version.drift_state = DriftState(
        model=version,
        metric=metric,
        rules={"kind": kind},
        status=status,
        verdict=document | stored,
        last_evaluation_end=NOW - DAY,
    )
    return version


def evaluation(*, version: int = 2, age: timedelta = DAY) -> ModelPerformanceMetric:
    end = NOW - age
    return ModelPerformanceMetric(
        model_version=version, evaluation_start=end - DAY, evaluation_end=end
    )


def said(version: ModelVersion | None, *, is_stale: bool = False, mean: float | None = None) -> str:
    told = sentence(
        verdicts.of_version(version),
        version=version,
        metric=named("mae", {"unit": "kWh"}),
        latest=evaluation(),
        is_stale=is_stale,
        mean=mean,
    )
    return join(told).replace("\N{NO-BREAK SPACE}", " ")


def join(told: Sentence) -> str:
    return f"{told.lead}|{told.rest}"


def verdict_of(version: ModelVersion) -> Verdict:
    found = verdicts.of_version(version)
    assert found is not None
    return found


def test_degraded_says_since_when_how_sure_and_how_much() -> None:
    version = judged("degraded", rule="change_point", conditions=[CHANGE])

    assert said(version) == (
        "Degraded since 1 Jan 2017| (95 %: 30 Dec 2016 – 2 Jan 2017). MAE of v2 went from 2 to"
        " 2.50 kWh, 25 % worse; Z reached 5.10 against a limit of 3.90 over 194 evaluations."
    )


def test_degraded_target_zero_tells_no_percentage_of_a_level_near_zero() -> None:
    version = judged("degraded", kind="target_zero", effect=16.5, conditions=[CHANGE])

    assert "worse" not in said(version)


@pytest.mark.parametrize(
    ("after", "before", "says"),
    [
        (None, "2017-01-02T00:00:00Z", "(95 %: not after 2 Jan 2017)"),
        (None, None, "since 1 Jan 2017|. MAE"),
    ],
)
def test_degraded_with_an_open_range_says_what_is_known(
    after: str | None, before: str | None, says: str
) -> None:
    assert says in said(judged("degraded", changed_after=after, changed_before=before))


def test_collapse_says_how_far() -> None:
    fall = {"rule": "collapse", "peak_statistic": 17.0, "threshold": 5.0}

    assert said(judged("degraded", rule="collapse", conditions=[fall])) == (
        "Collapsed since 1 Jan 2017.|MAE of v2 went from 2 to 2.50 kWh; 17 robust standard"
        " deviations away from what came before."
    )


def test_improved_is_told_like_a_change() -> None:
    assert said(judged("improved")).startswith(
        "Improved since 1 Jan 2017| (95 %: 30 Dec 2016 – 2 Jan 2017). MAE of v2 went from 2 to"
    )


def test_improvement_lost_is_no_alarm() -> None:
    version = judged("improvement_lost")

    assert said(version).startswith("An earlier improvement is lost since 1 Jan 2017.|")
    assert verdict_of(version).state.css == "stable"


def test_stable_never_shows_the_levels_of_its_best_split() -> None:
    told = said(judged("stable", changed_at=None), mean=2.2)

    assert told == (
        "No change found|in the MAE of v2; Z is 2.50 against a limit of 3.90 over 194"
        " evaluations. It is 2.20 kWh on average in this period."
    )


def test_stable_without_statistic_or_mean_says_what_it_can() -> None:
    told = said(judged("stable", changed_at=None, statistic=None))

    assert told == "No change found|in the MAE of v2; judged over 194 evaluations."


@pytest.mark.parametrize(("n", "have"), [(1, "1 evaluation of"), (12, "12 evaluations of")])
def test_insufficient_says_how_much_is_missing(n: int, have: str) -> None:
    told = said(judged("insufficient_data", n_evaluations=n, needed=30 - n))

    assert told == (
        f"Not enough data.|{have} the MAE of v2, {30 - n} more needed before a change can be told."
    )


def test_crossed_limit_wins_over_everything_but_degraded() -> None:
    limit = {"rule": "limit", "threshold": 2.4, "current": 2.6, "changed_at": None}

    stable = judged("stable", changed_at=None, conditions=[limit])
    assert verdict_of(stable).state.word == "Limit crossed"
    assert said(stable).startswith("Limit crossed.|MAE of v2 is 2.60 kWh, the limit 2.40 kWh; Z is")
    assert verdict_of(judged("degraded", conditions=[CHANGE, limit])).state.kind == "degraded"


def test_not_judged_and_not_active_are_said() -> None:
    unjudged = ModelVersion(model_version=3)
    unjudged._state.fields_cache["drift_state"] = None  # as a join without a match leaves it
    assert said(unjudged) == "Not judged yet.|No evaluation of v3 was judged."
    assert said(None).startswith("No version is active.|")


def test_stale_puts_the_silence_first_unless_degraded() -> None:
    fine = said(judged("stable", changed_at=None), is_stale=True)
    bad = said(judged("degraded", conditions=[CHANGE]), is_stale=True)

    assert fine.startswith("Nothing has arrived since")
    assert "|Before that: no change found in the MAE of v2" in fine
    assert bad.startswith("Degraded since 1 Jan 2017|")
    assert "evaluations. Nothing has arrived since" in bad


@pytest.mark.parametrize(
    ("age", "cadence", "expected"),
    [
        (timedelta(days=7), None, False),
        (timedelta(days=9), None, True),
        (timedelta(days=1.5), 86_400, False),
        (timedelta(days=2.5), 86_400, True),
        (timedelta(hours=3), 3_600, True),
    ],
)
def test_is_stale_after_twice_the_cadence_or_more_than_a_week(
    age: timedelta, cadence: int | None, expected: bool
) -> None:
    policy = PolicyValues(expected_cadence_seconds=cadence)

    assert verdicts.is_stale(evaluation(age=age), None, policy, NOW) is expected


def test_is_stale_when_only_a_challenger_is_still_evaluated() -> None:
    version = judged("stable")
    version.drift_state.last_evaluation_end = NOW - 30 * DAY

    assert verdicts.is_stale(evaluation(version=3), verdict_of(version), PolicyValues(), NOW)
    assert not verdicts.is_stale(evaluation(version=2), verdict_of(version), PolicyValues(), NOW)


@pytest.mark.parametrize(
    ("status", "stale", "kind"),
    [
        ("stable", True, "stale"),
        ("improved", True, "stale"),
        ("insufficient_data", True, "stale"),
        ("degraded", True, "degraded"),
        ("stable", False, "stable"),
    ],
)
def test_state_of_what_was_fine_long_ago_is_stale(status: str, stale: bool, kind: str) -> None:
    state = verdicts.state_of(verdict_of(judged(status)), evaluation(), is_stale=stale)

    assert state.kind == kind


def test_state_without_evaluation_or_verdict() -> None:
    assert verdicts.state_of(None, None, is_stale=False).word == "No evaluation"
    assert verdicts.state_of(None, evaluation(), is_stale=False).word == "Not enough data"
