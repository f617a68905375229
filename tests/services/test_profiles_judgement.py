"""Features judged from what is stored: which windows count, and in how many statements."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from modelperf.models import ModelVersion
from modelperf.services import profiles
from modelperf.services.profiles_columns import texts
from modelperf.stats.distributions import compare
from modelperf.stats.profiles import Reference, profile_of
from tests import factories

pytestmark = pytest.mark.django_db
START = datetime(2026, 3, 1, tzinfo=UTC)
RNG = np.random.default_rng(5)


def day(number: int) -> tuple[datetime, datetime]:
    return START + timedelta(days=number), START + timedelta(days=number + 1)


def columns(n: int, shift: float = 0.0, sites: str = "abc") -> dict[str, Any]:
    return {"load": RNG.normal(shift, 1, n), "site": texts(RNG.choice(list(sites), n).tolist())}


def referenced(model: ModelVersion | None = None, **more: Any) -> ModelVersion:
    model = model or factories.ModelVersionFactory(is_active=True)
    given = {"columns": columns(20_000), "roles": {"load": "target"}, "by": "a"} | more
    profiles.record_reference(model=model, **given)
    return model


def window(model: ModelVersion, number: int, given: dict[str, Any]) -> None:
    profiles.record_window(model=model, window=day(number), columns=given, by="a")


def judged(model: ModelVersion, **more: Any) -> dict[str, dict[str, Any]]:
    documents = profiles.judge_features(model_ids=[model.pk], **more)[model.pk]
    return {one["name"]: one for one in documents}


def test_unchanged_features_are_stable_and_tell_everything() -> None:
    model = referenced()
    for number in range(3):
        window(model, number, columns(1_000))

    load = judged(model)["load"]

    assert (load["status"], load["role"], load["kind"]) == ("stable", "target", "numeric")
    assert load["n"] in (1_000, 3_000)
    assert 0 < load["p_value"] <= 1
    assert 0 < load["q_value"] <= 1
    assert (load["window_start"], load["window_end"]) == (day(0)[0], day(2)[1])
    assert {"statistic", "ks_distance", "wasserstein", "wasserstein_sigmas", "psi"} < load.keys()
    assert {"psi_corrected", "js_distance", "new_categories", "merged"} < load.keys()
    assert load["missing_share_reference"] == load["missing_share_current"] == 0
    assert len(load["histogram"]["reference"]) == len(load["histogram"]["current"])
    assert msgspec.json.encode(load)


def test_moved_features_are_drifted_and_new_categories_named() -> None:
    model = referenced()
    window(model, 0, columns(1_000, shift=0.6, sites="abz"))

    found = judged(model)

    assert {one["status"] for one in found.values()} == {"drifted"}
    assert [name for name, _ in found["site"]["new_categories"]] == ["z"]
    assert found["load"]["q_value"] < 0.001


def test_the_verdict_is_that_of_the_windows_themselves() -> None:
    """Recompute it without the database: windows in order of their ends, whatever came first."""
    model = referenced()
    sent = {number: columns(300, shift=0.02 * number) for number in range(20)}
    for number in RNG.permutation(20):
        window(model, int(number), sent[int(number)])
    reference = Reference.from_bytes(bytes(model.feature_references.get(name="load").profile))

    expected = compare(
        reference,
        [profile_of(sent[number]["load"], reference) for number in range(4, 20)],
        n_features=2,
    )

    found = judged(model)["load"]
    assert found["statistic"] == expected.statistic
    assert (found["p_value"], found["n"]) == (expected.p_value, expected.n)
    assert found["merged"] == expected.merged
    assert (found["window_start"], found["window_end"]) == (
        day(20 - expected.merged)[0],
        day(19)[1],
    )


def test_windows_within_the_references_period_are_not_judged_but_tell_how_windows_differ() -> None:
    model = referenced(window=(day(0)[0], day(29)[1]))
    levels = RNG.normal(0, 0.5, 31)
    for number in range(30):
        window(model, number, {"load": RNG.normal(levels[number], 1, 400)})
    assert judged(model)["load"]["n"] == 0

    window(model, 30, {"load": RNG.normal(0.4, 1, 400)})

    found = judged(model)["load"]
    assert (found["test"], found["n"]) == ("hotelling", 400)
    assert found["status"] == "stable"


def test_a_feature_that_vanished_is_stable_no_more() -> None:
    model = referenced(roles={})
    for number in range(3):
        window(model, number, columns(1_000))
    window(model, 3, {"site": columns(1_000)["site"]})

    found = judged(model)

    assert (found["load"]["status"], found["load"]["is_stale"]) == ("insufficient_data", True)
    assert found["load"]["q_value"] is None
    assert (found["site"]["status"], found["site"]["is_stale"]) == ("stable", False)
    assert not judged(model, as_of=day(2)[1])["load"]["is_stale"]
    window(model, 3, columns(1_000))
    assert judged(model)["load"]["status"] == "stable"


def test_targets_that_come_late_and_longer_windows_have_not_vanished() -> None:
    model = referenced(columns=columns(20_000) | {"daily": RNG.normal(0, 1, 20_000)})
    window(model, 0, columns(1_000) | {"daily": RNG.normal(0, 1, 1_000)})
    for hour in range(30, 47):
        start, site = START + timedelta(hours=hour), columns(1_000)["site"]
        span = (start, start + timedelta(hours=1))
        profiles.record_window(model=model, window=span, columns={"site": site}, by="a")

    found = judged(model)
    assert {one["status"] for one in found.values()} == {"stable"}

    window(model, 1, {"site": columns(1_000)["site"]})
    found = judged(model)
    assert [name for name, one in found.items() if one["is_stale"]] == ["daily"]


def test_windows_after_as_of_are_left_out() -> None:
    model = referenced()
    window(model, 0, columns(1_000))
    window(model, 1, columns(1_000, shift=2.0))

    assert judged(model)["load"]["status"] == "drifted"
    assert judged(model, as_of=day(0)[1])["load"]["status"] == "stable"


def test_windows_of_a_replaced_reference_are_left_out() -> None:
    model = referenced()
    window(model, 0, columns(1_000, shift=2.0))
    referenced(model, columns=columns(20_000, shift=2.0))

    found = judged(model)["load"]

    assert (found["status"], found["n"]) == ("insufficient_data", 0)


def test_no_reference_is_an_empty_list_and_no_window_insufficient_data() -> None:
    bare, unknown = factories.ModelVersionFactory(is_active=True), uuid.uuid4()
    model = referenced()

    found = profiles.judge_features(model_ids=[bare.pk, unknown, model.pk])

    assert found[bare.pk] == found[unknown] == []
    assert {one["status"] for one in found[model.pk]} == {"insufficient_data"}
    assert profiles.judge_features(model_ids=[]) == {}


def test_a_fleet_is_the_active_versions_in_service() -> None:
    model = referenced()
    referenced(factories.ModelVersionFactory(is_active=False))
    retired = factories.MachineFactory(is_active=False)
    referenced(factories.ModelVersionFactory(machine=retired, is_active=True))

    assert list(profiles.judge_features(model_ids=None)) == [model.pk]


def test_many_models_are_judged_in_one_statement_and_alike() -> None:
    models = [referenced() for _ in range(5)]
    for model in models:
        window(model, 0, columns(200))

    with CaptureQueriesContext(connection) as queries:
        found = profiles.judge_features(model_ids=None)

    assert len(queries) == 1
    assert found.keys() == {model.pk for model in models}
    for model in models:
        assert profiles.judge_features(model_ids=[model.pk]) == {model.pk: found[model.pk]}


def test_the_dates_are_those_of_the_windows_that_decided() -> None:
    model = referenced()
    for number in range(20):
        window(model, number, columns(1_000, shift=3.0 if number == 19 else 0.0))

    load = judged(model)["load"]

    assert (load["status"], load["merged"]) == ("drifted", 1)
    assert (load["window_start"], load["window_end"]) == day(19)
