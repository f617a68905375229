"""The tail of the largest statistic of an unchanged series."""

import numpy as np
import pytest

from modelperf.stats.change_point import scan
from modelperf.stats.fleet import tail_p_value
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
