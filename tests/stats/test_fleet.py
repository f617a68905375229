"""The tail of the largest statistic of an unchanged series, and what a whole run may reject."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import statistics_fleet as benchmark
from modelperf.stats.change_point import scan
from modelperf.stats.fleet import CutOff, cut_off, q_values, tail_p_value
from tests.stats.reference import change_point_loops as loops


@pytest.mark.parametrize("t", [30, 100, 200, 400])
@pytest.mark.parametrize("z", [2.5, 3.9, 6.0, 20.0])
def test_tail_equals_the_formula(z: float, t: int):
    assert tail_p_value(z, t) == pytest.approx(loops.tail_p_value(z, t), rel=1e-12)


@pytest.mark.parametrize("t", [15, 16, 20, 30, 45, 60, 200, 10_000])
def test_tail_falls_in_z_and_stays_a_probability(t: int):
    p = tail_p_value(np.linspace(-5, 40, 4001), t)
    assert (np.diff(p) <= 1e-15).all()
    assert (p >= 0).all()
    assert (p <= 1).all()
    assert p[0] == 1
    assert p[-1] < 1e-300


def test_degenerate_tails():
    p = tail_p_value([5.0, 5.0, np.nan, 0.0, 1e9], [14, 3, 100, 100, 100])
    assert p[[0, 1, 3, 4]].tolist() == [1, 1, 1, 0]
    assert np.isnan(p[2])


def test_tail_agrees_with_simulation():
    z = scan(np.random.default_rng(8).normal(size=(6000, 100))).fall.z
    for limit in (2.5, 3.0):
        share, expected = np.mean(z > limit), float(tail_p_value(limit, 100))
        assert 0.4 * expected <= share <= 1.3 * expected


def test_q_values_are_scipys():
    p = np.random.default_rng(1).uniform(size=200) ** 3
    assert q_values(p) == pytest.approx(stats.false_discovery_control(p), rel=1e-12)
    with_gaps = np.insert(p, [0, 50], np.nan)
    assert np.isnan(q_values(with_gaps)).tolist() == np.isnan(with_gaps).tolist()
    assert q_values(with_gaps)[~np.isnan(with_gaps)] == pytest.approx(q_values(p))


def test_cut_off_is_that_of_benjamini_and_hochberg():
    # The fifteen p of their section 3.2; at .05 the procedure rejects four, Bonferroni three.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
    p += [0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    found = cut_off(p, 0.05)
    assert found == CutOff(n_judged=15, n_rejected=4)
    assert found.of(0.05) == pytest.approx(4 * 0.05 / 15)
    assert cut_off(np.array(p)[::-1], np.full(15, 0.05)) == found


def test_none_rejected_leaves_the_share_of_one():
    assert cut_off([0.5, 0.9, np.nan, 0.2], 0.05) == CutOff(n_judged=3, n_rejected=0)
    assert CutOff(n_judged=1000).of(0.05) == pytest.approx(0.05 / 1000)
    assert cut_off([]) == CutOff(n_judged=0)
    assert CutOff(n_judged=0).of(0.05) == 0.05


def test_policies_that_allow_more_reject_more():
    p = np.full(10, 0.02)
    assert cut_off(p, 0.01).n_rejected == 0
    q = np.repeat([0.01, 0.05], 5)
    found = cut_off(p, q)
    assert found.n_rejected == 5
    assert (p <= [found.of(each) for each in q]).tolist() == [False] * 5 + [True] * 5


shares = st.floats(1e-9, 1.0)
series = st.lists(st.tuples(shares, st.sampled_from([0.01, 0.05, 0.2])), max_size=40)


@given(series=series)
def test_cut_off_rejects_as_many_as_it_says(series: list[tuple[float, float]]):
    p, q = np.array(series).reshape(-1, 2).T
    found = cut_off(p, q)
    limits = np.array([found.of(each) for each in q])
    rejected = p <= limits * (1 + 1e-12)
    assert found.n_judged == len(p)
    assert rejected.sum() >= found.n_rejected
    strictly = p <= limits * (1 - 1e-12)
    assert strictly.sum() <= found.n_rejected


@pytest.mark.parametrize("q", [0.0, -0.1, 1.1, [0.05, np.nan], [0.05] * 3])
def test_wrong_q_is_refused(q):
    with pytest.raises(ValueError, match="q"):
        cut_off([0.1, 0.2], q)


@pytest.mark.parametrize("kind", ["iid", "ar.5", "t4"])
def test_fleets_keep_their_promises(kind: str):
    assert_kept(benchmark.fleets(kind, 2, 200, full=False))


@pytest.mark.parametrize("part", [benchmark.common_causes, benchmark.own_falls, benchmark.seasons])
def test_machines_keep_their_promises(part):
    assert_kept(part(40, full=False))


def test_speed_is_measured():
    rows = benchmark.speed(full=False)
    assert len(rows) == 2
    assert all(row.measured.endswith(" s") for row in rows)


def assert_kept(rows):
    assert rows
    assert [row for row in rows if not row.met] == []
