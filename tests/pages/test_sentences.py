"""Verdicts in words, one for each state."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from modelperf.drawing.metric_names import named
from modelperf.models import DriftState, ModelPerformanceMetric, ModelVersion
from modelperf.pages import verdicts
from modelperf.pages.sentences import Sentence, sentence
from modelperf.pages.verdicts import Silence, Verdict
from modelperf.services.policies import PolicyValues
from modelperf.templatetags.presentation import day, moment

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


def said(
    version: ModelVersion | None, *, silence: Silence | None = None, mean: float | None = None
) -> str:
    told = sentence(
        verdicts.of_version(version),
        version=version,
        metric=named("mae", {"unit": "kWh"}),
        latest=evaluation(),
        silence=silence,
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


def test_silence_comes_first_unless_degraded() -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    stale = Silence(since=midnight - 3 * DAY, due_at=midnight - 2 * DAY)
    old = Silence(since=midnight - 30 * DAY, due_at=None)
    fine = judged("stable", changed_at=None)
    bad = judged("degraded", conditions=[CHANGE])

    assert said(fine, silence=stale).startswith(
        f"Nothing has arrived since {day(midnight - 4 * DAY)} ("
    )
    assert f"; an evaluation was due by {moment(midnight - 2 * DAY)}.|" in said(fine, silence=stale)
    assert said(fine, silence=old).startswith(
        f"The last evaluation is of {day(midnight - 31 * DAY)} ("
    )
    assert "|Before that: no change found in the MAE of v2" in said(fine, silence=old)
    assert said(bad, silence=stale).startswith("Degraded since 1 Jan 2017|")
    assert "evaluations. Nothing has arrived since" in said(bad, silence=stale)


@pytest.mark.parametrize(
    ("age", "cadence", "delay", "expected"),
    [
        (timedelta(days=7), None, 0, None),
        (timedelta(days=9), None, 0, "old"),
        (timedelta(days=1.5), 86_400, 0, None),
        (timedelta(days=2.5), 86_400, 0, "stale"),
        (timedelta(days=2.5), 86_400, 86_400, None),
        (timedelta(days=3.5), 86_400, 86_400, "stale"),
        (timedelta(hours=3), 3_600, 0, "stale"),
        (timedelta(days=40), 30 * 86_400, 0, None),
    ],
)
def test_silence_is_stale_by_the_policy_and_old_without_one(
    age: timedelta, cadence: int | None, delay: int, expected: str | None
) -> None:
    policy = PolicyValues(expected_cadence_seconds=cadence, label_delay_seconds=delay)

    silence = verdicts.silence_of(judged("stable"), evaluation(age=age), policy, NOW)

    assert (silence.state.kind if silence else None) == expected


def test_silence_when_only_a_challenger_is_still_evaluated() -> None:
    version = judged("stable")
    version.drift_state.last_evaluation_end = NOW - 30 * DAY

    assert verdicts.silence_of(version, evaluation(version=3), PolicyValues(), NOW)
    assert not verdicts.silence_of(version, evaluation(version=2), PolicyValues(), NOW)


def test_silence_of_a_version_that_was_never_evaluated_counts_from_its_registration() -> None:
    version = ModelVersion(model_version=1, created_at=NOW - 3 * DAY)
    version._state.fields_cache["drift_state"] = None

    daily = PolicyValues(expected_cadence_seconds=86_400)
    assert verdicts.silence_of(version, None, daily, NOW) == Silence(NOW - 3 * DAY, NOW - 2 * DAY)
    assert verdicts.silence_of(version, None, PolicyValues(), NOW) is None
    assert verdicts.silence_of(None, None, daily, NOW) is None


@pytest.mark.parametrize(
    ("status", "due_at", "kind"),
    [
        ("stable", NOW, "stale"),
        ("improved", NOW, "stale"),
        ("insufficient_data", NOW, "stale"),
        ("degraded", NOW, "degraded"),
        ("stable", None, "old"),
        ("degraded", None, "degraded"),
    ],
)
def test_state_of_what_was_fine_long_ago_gives_way(
    status: str, due_at: datetime | None, kind: str
) -> None:
    silence = Silence(NOW - 30 * DAY, due_at)

    state = verdicts.state_of(verdict_of(judged(status)), evaluation(), silence)

    assert state.kind == kind
    assert verdicts.state_of(verdict_of(judged(status)), evaluation(), None).kind not in {
        "stale",
        "old",
    }


def test_state_without_evaluation_or_verdict() -> None:
    assert verdicts.state_of(None, None, None).word == "No evaluation"
    assert verdicts.state_of(None, evaluation(), None).word == "Not enough data"


def test_a_share_and_its_sign_stay_on_one_line() -> None:
    told = sentence(
        verdicts.of_version(judged("degraded", conditions=[CHANGE])),
        version=judged("degraded"),
        metric=named("mae", {}),
        latest=evaluation(),
        silence=None,
        mean=None,
    )

    assert "25\N{NO-BREAK SPACE}% worse" in told.rest
    assert "(95\N{NO-BREAK SPACE}%: " in told.rest
