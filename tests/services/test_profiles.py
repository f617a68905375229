"""Recording references and windows of features: repeatable, replaceable, in parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from modelperf.models import FeatureReference, ModelVersion, WindowProfile
from modelperf.models.profiles import LARGEST_PROFILE_BYTES
from modelperf.services import profiles
from modelperf.services.errors import ConflictError, InvalidError
from modelperf.services.profiles import Recorded
from modelperf.services.profiles_columns import Column, Counts, Text, texts
from modelperf.stats.profiles import Profile, Reference, profile_of
from tests import factories

pytestmark = pytest.mark.django_db
DAY = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
BY = "key:tests"


@pytest.fixture
def model() -> ModelVersion:
    return factories.ModelVersionFactory(is_active=True)


def rows(n: int, seed: int = 0, shift: float = 0.0) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    return {
        "load": rng.normal(shift, 1.0, n),
        "site": texts(rng.choice(["north", "south", "west"], n).tolist()),
    }


def referenced(model: ModelVersion, **more: Any) -> list[Recorded]:
    return profiles.record_reference(model=model, columns=rows(5_000), roles={}, by=BY, **more)


def windowed(model: ModelVersion, columns: Any = None, **more: Any) -> list[Recorded]:
    given = {"window": DAY, "columns": columns or rows(500, seed=1), "by": BY} | more
    return profiles.record_window(model=model, **given)


def statuses(recorded: list[Recorded]) -> list[str]:
    return [one.status for one in recorded]


def test_reference_holds_counts_within_its_size(model: ModelVersion) -> None:
    load, site = referenced(model)

    stored = FeatureReference.objects.get(pk=load.id)
    assert (stored.name, stored.role, stored.kind, stored.n) == ("load", "feature", "numeric", 5000)
    assert (site.kind, site.status, site.n) == ("categorical", "created", 5000)
    assert len(stored.profile) <= LARGEST_PROFILE_BYTES
    assert Reference.from_bytes(bytes(stored.profile)).n == 5000
    assert stored.created_by == BY


def test_same_reference_again_is_unchanged_and_keeps_its_windows(model: ModelVersion) -> None:
    first = referenced(model)
    windowed(model)

    again = referenced(model)

    assert statuses(again) == ["unchanged", "unchanged"]
    assert [one.id for one in again] == [one.id for one in first]
    assert statuses(windowed(model)) == ["unchanged", "unchanged"]


def test_other_reference_replaces_it_and_the_old_one_stays_as_history(model: ModelVersion) -> None:
    (old, _) = referenced(model)

    (new,) = profiles.record_reference(
        model=model,
        columns={"load": np.arange(50.0)},
        roles={"load": "target"},
        window=DAY,
        by="user:ann",
    )

    assert (new.status, new.role) == ("replaced", "target")
    history = FeatureReference.objects.get(pk=old.id)
    assert history.replaced_by == "user:ann"
    current = FeatureReference.objects.current().filter(model=model)
    assert {one.name: one.pk for one in current}["load"] == new.id
    assert {one.name for one in current} == {"load", "site"}
    assert (current.get(name="load").window_start, current.get(name="load").window_end) == DAY


def test_reference_of_another_role_alone_is_another_one(model: ModelVersion) -> None:
    referenced(model)
    again = profiles.record_reference(
        model=model, columns=rows(5_000), roles={"load": "prediction"}, by=BY
    )
    assert statuses(again) == ["replaced", "unchanged"]


def test_numbers_may_be_categories(model: ModelVersion) -> None:
    columns = {"class": np.array([0, 1, 1, np.nan]), "code": Text(texts(["01", "02", "01", ""]))}
    stored = profiles.record_reference(
        model=model, columns=columns, roles={}, categorical=["class", "code"], by=BY
    )
    windowed(model, {"class": np.array([1.0]), "code": Text(texts(["01"]))})

    assert [(one.kind, one.n, one.missing) for one in stored] == [("categorical", 3, 1)] * 2
    found = {
        one.feature: Profile.from_bytes(bytes(one.profile)) for one in WindowProfile.objects.all()
    }
    assert all(one.other == 0 and one.n == 1 for one in found.values())


def test_counts_store_the_same_bytes_as_their_columns(model: ModelVersion) -> None:
    referenced(model)
    columns = {"load": np.array([0.5, 0.5, -1.0, np.nan]), "site": texts(["west", None, "x", "x"])}
    windowed(model, columns)

    counts = {"load": Counts({0.5: 2, -1.0: 1}, 1), "site": Counts({"x": 2, "west": 1}, 1)}

    assert statuses(windowed(model, counts)) == ["unchanged", "unchanged"]


def test_counts_make_the_same_reference_as_their_columns(model: ModelVersion) -> None:
    columns = {"load": np.array([1.0, 2.0, 2.0]), "class": np.array([7.0, 7.0, 8.0])}
    counts = {"load": Counts({1: 1, 2: 2}), "class": Counts({7: 2, 8: 1})}
    for content, status in ((columns, "created"), (counts, "unchanged")):
        stored = profiles.record_reference(
            model=model, columns=content, roles={}, categorical=["class"], by=BY
        )
        assert statuses(stored) == [status, status]


def test_window_is_created_unchanged_or_revised(model: ModelVersion) -> None:
    referenced(model)
    created, again = windowed(model), windowed(model)
    revised = windowed(model, rows(500, seed=2))

    assert statuses(created) == ["created", "created"]
    assert statuses(again) == ["unchanged", "unchanged"]
    assert statuses(revised) == ["revised", "revised"]
    assert {one.revision for one in revised} == {2}
    assert [one.id for one in revised] == [one.id for one in created]
    assert WindowProfile.objects.count() == 2
    row = WindowProfile.objects.get(feature="load")
    expected = profile_of(rows(500, seed=2)["load"], Reference.from_bytes(row.reference.profile))
    assert bytes(row.profile) == expected.to_bytes()
    assert (row.n, row.machine, row.model_type) == (500, model.machine, model.model_type)
    assert (row.window_start, row.window_end) == DAY


def test_window_under_a_new_reference_is_counted_anew(model: ModelVersion) -> None:
    referenced(model)
    windowed(model)
    profiles.record_reference(model=model, columns=rows(900, seed=9), roles={}, by=BY)

    again = windowed(model)

    assert statuses(again) == ["revised", "revised"]
    current = {one.pk for one in FeatureReference.objects.current()}
    assert {one.reference_id for one in again} == current


def test_window_before_any_reference_says_what_to_send_first(model: ModelVersion) -> None:
    with pytest.raises(ConflictError, match="role reference"):
        windowed(model)


def test_column_without_reference_is_named(model: ModelVersion) -> None:
    referenced(model)
    with pytest.raises(InvalidError, match="speed has no reference") as refused:
        windowed(model, {"load": np.ones(3), "speed": np.ones(3)})
    assert [error.loc for error in refused.value.errors] == [("body", "speed")]
    assert not WindowProfile.objects.exists()


def test_text_for_numbers_is_refused_and_nulls_are_not(model: ModelVersion) -> None:
    referenced(model)
    with pytest.raises(InvalidError, match="holds numbers"):
        windowed(model, {"load": texts(["a"])})
    (stored,) = windowed(model, {"load": texts([None, None])})
    assert (stored.n, stored.missing) == (0, 2)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"window": DAY[::-1]}, "after window_start"),
        ({"window": (DAY[0].replace(tzinfo=None), DAY[1])}, "offset"),
        ({"columns": {"x" * 201: np.ones(1)}}, "1 to 200"),
        ({"columns": {"a\0": np.ones(1)}}, "1 to 200"),
        ({"part": ""}, "part"),
        ({"part": "a\0"}, "part"),
    ],
)
def test_window_with_wrong_parameters_says_which(
    model: ModelVersion, more: dict[str, Any], says: str
) -> None:
    referenced(model)
    with pytest.raises(InvalidError, match=says):
        windowed(model, **more)


def test_reference_with_wrong_parameters_says_which(model: ModelVersion) -> None:
    columns = {"load": np.ones(3)}
    for more, says in (
        ({"roles": {"speed": "target"}}, "no column speed"),
        ({"roles": {}, "categorical": ["speed"]}, "no column speed"),
        ({"roles": {}, "window": DAY[::-1]}, "after window_start"),
        ({"roles": {}, "columns": {}}, "columns are expected"),
    ):
        with pytest.raises(InvalidError, match=says):
            profiles.record_reference(model=model, by=BY, **{"columns": columns} | more)
    assert not FeatureReference.objects.exists()


# --- parts of a window ----------------------------------------------------------------------


def test_parts_add_up_to_the_whole_bit_for_bit_and_count_once(model: ModelVersion) -> None:
    referenced(model)
    whole = rows(700, seed=3)
    pieces = {"b": slice(400, 700), "a": slice(0, 150), "c": slice(150, 400)}
    sent = [(name, {n: c[piece] for n, c in whole.items()}) for name, piece in pieces.items()]

    outcome = [statuses(windowed(model, piece, part=name)) for name, piece in sent + sent]

    assert outcome[0] == ["created", "created"]
    assert outcome[1:3] == [["merged", "merged"]] * 2
    assert outcome[3:] == [["unchanged", "unchanged"]] * 3
    row = WindowProfile.objects.get(feature="load")
    assert (row.n, sorted(row.parts)) == (700, ["a", "b", "c"])
    assert statuses(windowed(model, whole)) == ["unchanged", "unchanged"]


def test_part_with_other_content_is_refused_and_the_whole_again_replaces(
    model: ModelVersion,
) -> None:
    referenced(model)
    windowed(model, part="a")
    with pytest.raises(ConflictError, match="other content"):
        windowed(model, rows(10), part="a")

    assert statuses(windowed(model, rows(10))) == ["revised", "revised"]
    with pytest.raises(ConflictError, match="as a whole"):
        windowed(model, rows(10), part="a")


def test_part_under_a_new_reference_starts_the_window_anew(model: ModelVersion) -> None:
    referenced(model)
    windowed(model, part="a")
    profiles.record_reference(model=model, columns=rows(900, seed=9), roles={}, by=BY)

    assert statuses(windowed(model, part="b")) == ["revised", "revised"]
    assert [one.parts.keys() for one in WindowProfile.objects.all()] == [{"b"}, {"b"}]


def test_window_has_a_bounded_number_of_parts(
    model: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles.profiles_windows, "MOST_PARTS", 2)
    referenced(model)
    for part in "ab":
        windowed(model, part=part)
    with pytest.raises(ConflictError, match="at most 2 parts"):
        windowed(model, part="c")


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.floats(allow_nan=True, width=64) | st.integers(-5, 5).map(float), max_size=60),
    st.lists(st.integers(0, 60), max_size=5),
    st.randoms(use_true_random=False),
)
def test_any_split_into_parts_stores_the_same_bytes(
    values: list[float], cuts: list[int], random: Any
) -> None:
    column = np.array(values, dtype=np.float64)
    model = factories.ModelVersionFactory(is_active=True)
    referenced(model)
    places = sorted({0, len(column), *(cut for cut in cuts if cut < len(column))})
    pieces = [column[a:b] for a, b in pairwise(places)] or [column]
    random.shuffle(pieces)
    for number, piece in enumerate(pieces):
        windowed(model, {"load": piece}, part=str(number))

    (whole,) = windowed(model, {"load": column})

    assert whole.status == "unchanged"


# --- how it reaches the tables --------------------------------------------------------------


def test_recording_needs_the_same_statements_for_few_and_for_many() -> None:
    counts = []
    for n in (1, 30):
        model = factories.ModelVersionFactory()
        columns = {f"f{i}": np.arange(10.0) for i in range(n)}
        with CaptureQueriesContext(connection) as queries:
            profiles.record_reference(model=model, columns=columns, roles={}, by=BY)
            windowed(model, columns)
            windowed(model, {name: column + 1 for name, column in columns.items()})
            windowed(model, columns, window=(DAY[0], DAY[1] + timedelta(days=1)))
        counts.append(len([q for q in queries if "SAVEPOINT" not in q["sql"]]))
    assert counts[0] == counts[1] <= 25


def test_reference_replaced_meanwhile_is_a_conflict(model: ModelVersion) -> None:
    """Count under one reference and store under the next: the cells are not the same."""
    referenced(model)
    held = profiles.current_references(model=model)
    counted = {"load": profile_of(np.ones(3), Reference.from_bytes(held["load"].profile))}
    profiles.record_reference(model=model, columns=rows(900, seed=9), roles={}, by=BY)

    with pytest.raises(ConflictError, match="replaced meanwhile"):
        profiles.record_profiles(model=model, window=DAY, profiles=counted, by=BY)
    assert not WindowProfile.objects.exists()
