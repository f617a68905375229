"""Profiles: counts that add up bit for bit, cells found as numpy finds them, few bytes."""

import math
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelperf.stats import exact_sums
from modelperf.stats.cell_lookup import CellLookup
from modelperf.stats.cells import cut_points
from modelperf.stats.packing import Packer, Unpacker, numbers, varints
from modelperf.stats.profiles import (
    FeatureKind,
    Profile,
    Reference,
    merge,
    profile_from_counts,
    profile_of,
    reference_from_counts,
    reference_of,
)
from modelperf.stats.sketches import Sketch, merge_sketches

CHANCE = np.random.default_rng(8)
MANY = 40_000
COLUMNS = {
    "normal": CHANCE.standard_normal(MANY),
    "offset": 1e6 + CHANCE.standard_normal(MANY),
    "skewed": CHANCE.lognormal(0, 3, MANY),
    "heavy": CHANCE.standard_cauchy(MANY),
    "counts": CHANCE.poisson(4, MANY).astype(float),
    "rounded": np.round(CHANCE.lognormal(0, 1, MANY), 2),
    "half zero": np.where(CHANCE.random(MANY) < 0.5, 0.0, CHANCE.exponential(1, MANY)),
    "two humps": np.where(CHANCE.random(MANY) < 0.5, 0.0, 1e5) + CHANCE.standard_normal(MANY),
    "times": 1.7e9 + 60.0 * np.arange(MANY),
    "tiny": 1e-300 * CHANCE.standard_normal(MANY),
    "huge": 1e140 * CHANCE.standard_normal(MANY),
    "constant": np.full(MANY, 0.1),
    "signed zeros": np.copysign(0.0, CHANCE.standard_normal(MANY)),
    "with gaps": np.where(CHANCE.random(MANY) < 0.3, np.nan, CHANCE.standard_normal(MANY)),
    "with ends": np.where(CHANCE.random(MANY) < 0.1, -np.inf, CHANCE.standard_normal(MANY)),
}
LABELS = CHANCE.choice(np.array(["a", "b", "", "ä" * 90, None, True, 3], dtype=object), 2_000)

any_floats = arrays(
    np.float64,
    st.integers(0, 60),
    elements=st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, 2.0, np.nan, np.inf])),
)


def deal(values: np.ndarray, parts: int, seed: int = 0) -> list[np.ndarray]:
    """Shuffle values and cut them into parts, some of them empty."""
    chance = np.random.default_rng(seed)
    places = np.sort(chance.integers(0, values.size + 1, parts - 1))
    return np.split(chance.permutation(values), places)


# --- counting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_counts_and_sums_are_those_of_the_values(name: str) -> None:
    values = COLUMNS[name]
    reference = reference_of(values[: MANY // 2])
    profile = profile_of(values, reference)
    there = values[~np.isnan(values)]
    finite = there[np.isfinite(there)]
    cells = np.searchsorted(reference.cells.cuts, there, side="right")
    assert profile.counts.tolist() == np.bincount(cells, minlength=reference.cells.size).tolist()
    assert (profile.n, profile.missing) == (there.size, values.size - there.size)
    assert (profile.below, profile.above) == ((there == -np.inf).sum(), (there == np.inf).sum())
    assert (profile.minimum, profile.maximum) == (finite.min(), finite.max())
    assert profile.total.value == pytest.approx(math.fsum(finite), rel=1e-15, abs=0)
    squares = (finite - reference.cells.centre) ** 2
    assert profile.squares.value == pytest.approx(math.fsum(squares), rel=1e-9, abs=1e-322)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_reference_has_its_own_moments_and_cells_of_small_shares(name: str) -> None:
    values = COLUMNS[name]
    reference = reference_of(values)
    finite = values[np.isfinite(values)]
    spread = reference.deviation
    assert spread == pytest.approx(finite.std(ddof=1), rel=1e-6, abs=1e-12 * abs(finite.mean()))
    assert reference.profile.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-12 * spread)
    cuts = np.concatenate([[-np.inf], reference.cells.cuts, [np.inf]])
    for count, low, high in zip(reference.profile.counts, cuts, cuts[1:], strict=False):
        one_value = high == np.nextafter(low, np.inf) or not np.isfinite([low, high]).all()
        assert one_value or reference.cells.exact or count <= reference.n / 1_000
    assert reference.cells.size <= 2048
    assert 1 <= reference.bins.size <= 32


def test_bins_have_equal_shares_without_ties() -> None:
    reference = reference_of(COLUMNS["normal"])
    counts = np.add.reduceat(reference.profile.counts, reference.bins)
    assert counts.size == 32
    assert np.abs(counts / MANY - 1 / 32).max() < 1 / 2048


def test_few_values_have_a_cell_each() -> None:
    cuts = cut_points(np.array([1.0, 2.0, 5.0]), np.array([200, 300, 400]))
    assert cuts.tolist() == sorted(c for v in (1.0, 2.0, 5.0) for c in (v, np.nextafter(v, 9)))
    reference = reference_of([1] * 200 + [2] * 300 + [5] * 400)
    assert reference.profile.counts.tolist() == [0, 200, 0, 300, 0, 400, 0]
    assert profile_of([0.5, 1.5, 2, 6, 1], reference).counts.tolist() == [1, 1, 1, 1, 0, 0, 1]


@pytest.mark.parametrize("name", COLUMNS)
def test_the_grid_finds_what_a_binary_search_finds(name: str) -> None:
    values = COLUMNS[name][np.isfinite(COLUMNS[name])]
    cuts = reference_of(values).cells.cuts
    ends = np.nextafter(cuts, -np.inf), cuts, np.nextafter(cuts, np.inf)
    far = [-0.0, 0.0, -1e150, 1e150, 5e-324, -5e-324]
    looked_up = np.concatenate([values, *ends, far])
    expected = np.searchsorted(cuts, looked_up, side="right")
    assert (CellLookup(cuts).cells(looked_up) == expected).all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e100, 1e100), unique=True))
def test_the_grid_is_right_for_any_cuts(cuts: np.ndarray) -> None:
    cuts = np.unique(cuts + 0.0)
    near = np.concatenate([cuts, np.nextafter(cuts, -np.inf), (cuts[1:] + cuts[:-1]) / 2])
    values = np.resize(near, exact_sums.CHUNK)
    expected = np.searchsorted(cuts, values, side="right")
    assert (CellLookup(cuts).cells(values) == expected).all()


# --- adding up --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_parts_add_up_bit_for_bit(name: str) -> None:
    reference = reference_of(COLUMNS[name][::2])
    whole = profile_of(COLUMNS[name], reference).to_bytes()
    parts = [profile_of(part, reference) for part in deal(COLUMNS[name], 23)]
    assert merge(parts).to_bytes() == whole
    assert merge([merge(parts[:9]), merge(parts[9:])]).to_bytes() == whole


@settings(max_examples=80, deadline=None)
@given(any_floats, any_floats, st.integers(1, 6), st.integers(0, 99))
def test_any_floats_add_up(own: np.ndarray, values: np.ndarray, parts: int, seed: int) -> None:
    reference = reference_of(own)
    whole = profile_of(values, reference)
    assert merge([profile_of(p, reference) for p in deal(values, parts, seed)]) == whole
    assert Profile.from_bytes(whole.to_bytes()) == whole
    assert Reference.from_bytes(reference.to_bytes()) == reference


def test_categories_add_up() -> None:
    reference = reference_of(LABELS[:5])
    values = np.concatenate([LABELS, [f"new {number}" for number in range(3_000)]])
    whole = profile_of(values, reference)
    parts = [profile_of(part, reference) for part in deal(values, 12)]
    assert merge(parts).to_bytes() == whole.to_bytes()
    assert len(whole.new) == 100
    assert all(count == Counter(values.tolist())[name] for name, count in whole.new.items())
    assert whole.n == whole.counts.sum() + whole.other


def test_sums_are_rounded_value_by_value() -> None:
    exponent, values = -20, np.array([1.0, 2**-21, 3 * 2**-21, 1e6 + 2**-20, -(2**-30)])
    units = exact_sums.sum_units(values, 2e6, exponent)
    assert units == sum(round(Fraction(v) / Fraction(2) ** exponent) for v in values.tolist())
    assert units == sum(exact_sums.sum_units(v[None], abs(v), exponent) for v in values)


def test_other_processes_pack_the_same_bytes() -> None:
    program = (
        "import numpy as np, hashlib; from modelperf.stats.profiles import *\n"
        "x = np.random.default_rng(3).standard_cauchy(30_000); r = reference_of(x[::3])\n"
        "c = reference_of(list('abcabd')); p = profile_of(list('xyzab'), c)\n"
        "whole = b''.join(v.to_bytes() for v in (r, profile_of(x, r), c, p))\n"
        "print(hashlib.sha256(whole).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_profiles_of_different_references_do_not_merge() -> None:
    first, second = reference_of([1, 2, 3]), reference_of([1, 2, 4])
    with pytest.raises(ValueError, match="different references"):
        merge([profile_of([1], first), profile_of([1], second)])
    with pytest.raises(ValueError, match="nothing"):
        merge([])
    with pytest.raises(ValueError, match="another reference"):
        first.filled(profile_of([1], second))


# --- bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_packed_they_are_small_and_come_back(name: str) -> None:
    reference = reference_of(COLUMNS[name])
    profile = profile_of(COLUMNS[name][::3], reference)
    for thing, kind in ((reference, Reference), (profile, Profile)):
        packed = thing.to_bytes()
        assert len(packed) <= 20_000
        assert kind.from_bytes(packed) == thing
    assert Reference.from_bytes(reference.to_bytes()).digest == reference.digest
    assert len(profile_of(COLUMNS[name][:10], reference).to_bytes()) < 250


def test_billions_of_rows_and_long_names_still_fit() -> None:
    full = CHANCE.standard_normal(3_000) * 10.0 ** CHANCE.integers(-9, 9, 3_000)
    reference = reference_from_counts(dict.fromkeys(full.tolist(), 10**14 // 7))
    assert len(reference.to_bytes()) <= 20_000
    assert len(merge([reference.profile] * 1_000).to_bytes()) <= 20_000
    often = {f"{n:05}" + "é漢" * 400: 10**12 // (n + 1) for n in range(1_000)}
    named = reference_from_counts(often)
    assert len(named.to_bytes()) <= 20_000
    assert len(set(named.cells.categories)) == len(named.cells.categories) == 200
    news = profile_from_counts({f"{n:05}" + "😀" * 400: 10**12 for n in range(1_000)}, named)
    assert len(news.to_bytes()) <= 20_000


@pytest.mark.parametrize("packed", [b"", b"\x01\x00\x09rest", b"\x01\x00\x01", b"\xff" * 40])
def test_other_bytes_are_refused(packed: bytes) -> None:
    for kind in (Reference, Profile):
        with pytest.raises(ValueError, match="profile"):
            kind.from_bytes(packed)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30))
def test_varints_come_back(values: list[int]) -> None:
    packed = varints(np.array(values, dtype=np.uint64))
    assert numbers(packed).tolist() == values
    assert len(packed) == sum(max(1, -(-value.bit_length() // 7)) for value in values)


@given(st.lists(st.integers(0, 3), max_size=200), st.integers(), st.floats(allow_nan=False))
def test_fields_come_back(counts: list[int], number: int, real: float) -> None:
    packer = Packer()
    packer.counts(np.array(counts, dtype=np.int64))
    packer.number(number)
    packer.real(real)
    packer.real(None)
    packer.text("ä\ud800")
    taken = Unpacker(packer.done())
    assert taken.counts().tolist() == counts
    assert (taken.number(), taken.real(), taken.real(), taken.text()) == (
        number,
        real,
        None,
        "ä\ud800",
    )


# --- columns ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "n", "missing"),
    [
        ([], "numeric", 0, 0),
        ([np.nan] * 3, "numeric", 0, 3),
        ([None, None], "numeric", 0, 2),
        ([None, 3, 2.5], "numeric", 2, 1),
        ([1, 2, 2], "numeric", 3, 0),
        (np.array([1, 2], dtype=np.uint8), "numeric", 2, 0),
        (np.array([1.5, np.nan], dtype=np.float32), "numeric", 1, 1),
        ([True, False, None], "categorical", 2, 1),
        (np.array([True, False]), "categorical", 2, 0),
        (["a", None, np.nan, ""], "categorical", 2, 2),
        (np.array(["a", "b"]), "categorical", 2, 0),
        (
            np.array(["2020-01-01", "NaT"], dtype="datetime64[s]").astype(object),
            "categorical",
            1,
            1,
        ),
    ],
)
def test_columns_have_a_kind(values: object, kind: str, n: int, missing: int) -> None:
    reference = reference_of(values)  # type: ignore[arg-type]
    assert (reference.kind, reference.n, reference.missing) == (kind, n, missing)
    assert profile_of(values, reference) == reference.profile  # type: ignore[arg-type]


def test_numbers_may_be_categories_and_a_kind_is_kept() -> None:
    reference = reference_of([1, 2, 2, None], FeatureKind.CATEGORICAL)
    assert reference.cells.categories == ("2", "1")
    assert profile_of([2, 3, np.nan], reference).new == {"3": 1}
    assert reference_of([True, False]).cells.categories[0] in {"true", "false"}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: profile_of(["a"], reference_of([1.0])), "numbers only"),
        (lambda: reference_of(["a"], FeatureKind.NUMERIC), "numbers only"),
        (lambda: reference_of([[1.0]]), "one dimension"),
        (lambda: reference_from_counts({1.0: -1}), "negative"),
        (lambda: merge_sketches([Sketch.of(["a"]), Sketch.of([1])]), "either"),
        (lambda: merge_sketches([]), "nothing"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("name", ["counts", "rounded", "with gaps", "with ends", "signed zeros"])
def test_ready_made_counts_are_as_good_as_values(name: str) -> None:
    values = COLUMNS[name][:3_000]
    counts = Counter((values[~np.isnan(values)]).tolist())
    missing = int(np.isnan(values).sum())
    assert reference_from_counts(counts, missing=missing) == reference_of(values)
    reference = reference_of(COLUMNS["counts"])
    assert profile_from_counts(counts, reference, missing) == profile_of(values, reference)


def test_ready_made_categories_are_as_good_as_labels() -> None:
    counts = {"a": 3, "b": 0, None: 2, "c": 1}
    reference = reference_of(["a", "c", "a", "a"])
    assert profile_from_counts(counts, reference, 1).missing == 3
    values = ["a", "a", "a", "c", None, None]
    assert profile_from_counts(counts, reference) == profile_of(values, reference)
    assert reference_from_counts(counts) == reference_of(values)


# --- two passes -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_two_passes_over_any_parts_give_one_reference(name: str) -> None:
    values = np.concatenate([COLUMNS[name], COLUMNS[name] * 1.000001, COLUMNS[name] * 0.9])
    outline = Sketch.of(values).outline()
    parts = deal(values, 9)
    sketches = [Sketch.of(part) for part in parts]
    nested = merge_sketches([merge_sketches(sketches[:5]), merge_sketches(sketches[5:])])
    assert nested.outline() == outline
    reference = outline.filled(merge([profile_of(part, outline) for part in parts]))
    assert reference.n == np.count_nonzero(~np.isnan(values))
    assert len(reference.to_bytes()) <= 20_000
    at_once = reference_of(values)
    if at_once.cells.exact:
        assert reference == at_once
    largest = [ref.profile.counts.max() for ref in (reference, at_once)]
    assert largest[0] <= 2 * largest[1] + 100


def test_two_passes_over_categories() -> None:
    sketches = [Sketch.of(part) for part in deal(LABELS, 7)]
    outline = merge_sketches([Sketch.of([None]), *sketches]).outline()
    assert outline.filled(profile_of(LABELS, outline)) == reference_of(LABELS)


def test_a_sketch_stays_small() -> None:
    sketch = merge_sketches([Sketch.of(part) for part in deal(COLUMNS["normal"], 3)] * 2)
    more = merge_sketches([sketch, Sketch.of(COLUMNS["normal"] + 1e-7), Sketch.of([np.nan])])
    assert sketch.keys.size <= more.keys.size <= 65_536
    assert more.counts.sum() == 3 * MANY
    named = Sketch.of([f"{number}" for number in range(70_000)])
    assert len(named.labels) == 65_536


def test_nothing_seen_has_no_kind_yet() -> None:
    assert Sketch.of([None, np.nan]).kind is None
    assert merge_sketches([Sketch.of([None]), Sketch.of(["a"])]).kind is FeatureKind.CATEGORICAL
    assert merge_sketches([Sketch.of([None])]).outline().kind is FeatureKind.NUMERIC
