"""When a newer version has proved better: formulae, parity, degenerate cases and figures."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import statistics_improvement as benchmark
from modelperf.stats.improvement import FEWEST_AFTER, proved_better
from modelperf.stats.results import MetricKind

HIGHER = MetricKind.HIGHER


def noise(size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size)


def test_one_look_equals_the_formulae_by_loops():
    before, after, earlier = noise(14, 1), 4 + noise(10, 2), 6 + 2 * noise(40, 3)

    def centred(values):
        bound = 3 * np.median(np.abs(values - np.median(values))) / 0.6745
        clipped = np.clip(values, np.median(values) - bound, np.median(values) + bound)
        return clipped.mean(), clipped - clipped.mean()

    (m_b, x_b), (m_a, x_a), (_, x_e) = centred(before), centred(after), centred(earlier)
    df_b = 20 + 13
    v_b = (20 * (x_e @ x_e) / 39 + x_b @ x_b) / df_b
    r1 = (x_b[1:] @ x_b[:-1] + x_e[1:] @ x_e[:-1]) / (x_b @ x_b + x_e @ x_e)
    phi_b = np.clip((54 * r1 + 5) / 49, 0, 0.95)
    r1 = x_a[1:] @ x_a[:-1] / (x_a @ x_a)
    own = np.clip(r1 + (1 + 4 * r1) / 10, 0, 0.95)
    phi_a = max(own, (10 * own + 30 * phi_b) / 40)
    e_b2 = v_b / 14 * (1 + phi_b) / (1 - phi_b)
    e_a2 = x_a.var(ddof=1) / 10 * (1 + phi_a) / (1 - phi_a)
    t = (m_a - m_b - np.sqrt(e_b2)) / np.sqrt(e_b2 + e_a2)
    share = e_b2 / (e_b2 + e_a2)
    df = 1 / (share**2 / df_b + (1 - share) ** 2 / 9)
    n = share * 14 + (1 - share) * 10
    e = ((1 + t**2 / df) / (1 + t**2 / (df * (1 + n)))) ** ((df + 1) / 2) / np.sqrt(1 + n)
    found = proved_better(before, after, earlier=earlier, kind=HIGHER, min_effect=0.0)
    assert found.p_value == pytest.approx(1 / (2 * e - 1))
    assert found.phi == pytest.approx(max(phi_a, phi_b))
    assert (found.n_before, found.n_after, found.needed) == (14, 10, 0)


def test_it_is_cautious_beside_welch_and_agrees_far_from_doubt():
    """On iid data scipy's one-sided Welch test is at least as sure at every single look."""
    for seed in range(40):
        before, after = noise(60, seed), 0.7 + noise(30, 1000 + seed)
        found = proved_better(before, after, kind=HIGHER, min_effect=0.0)
        p_values = [
            stats.ttest_ind(after[:n], before, equal_var=False, alternative="greater").pvalue
            for n in range(FEWEST_AFTER, found.n_after + 1)
        ]
        assert min(p_values) <= found.p_value
    assert stats.ttest_ind(before + 3, before, equal_var=False, alternative="greater").pvalue < 1e-9
    assert proved_better(before, before[:10] + 3, kind=HIGHER, min_effect=0.0).is_better


def test_once_proved_it_stays_so_whatever_follows():
    before, after = noise(20, 1), 3 + noise(12, 2)
    found = proved_better(before, after, kind=HIGHER, min_effect=0.0)
    assert found.is_better
    again = proved_better(before, [*after, *(noise(60, 3) - 9)], kind=HIGHER, min_effect=0.0)
    assert again == found


def test_every_look_counts_and_the_smallest_p_is_told():
    before, after = noise(20, 1), 0.4 + noise(60, 2)
    p_values = [
        proved_better(before, after[:n], kind=HIGHER, min_effect=np.inf).p_value
        for n in range(10, 61)
    ]
    assert p_values == sorted(p_values, reverse=True)


@pytest.mark.parametrize(
    ("kind", "worse", "better"),
    [
        (MetricKind.LOSS, 1.5, 1.0),
        (MetricKind.LOWER, 1.5, 1.0),
        (MetricKind.HIGHER, 1.0, 1.5),
        (MetricKind.R_SQUARED, 0.6, 0.9),
        (MetricKind.PROPORTION, 0.6, 0.9),
        (MetricKind.TARGET_ZERO, 1.5, -0.5),
        (MetricKind.TARGET_ZERO, -1.5, 0.5),
    ],
)
def test_better_is_better_by_kind_and_worse_never(kind, worse, better):
    bad, good = worse + 0.03 * noise(20, 1), better + 0.03 * noise(20, 2)
    for scale in (1.0, 100.0) if kind is MetricKind.LOSS else (1.0,):
        found = proved_better(scale * bad, scale * good, kind=kind, min_effect=0.02)
        assert found.is_better
        assert found.effect < -0.1
    found = proved_better(good, bad, kind=kind, min_effect=0.02)
    assert (found.is_better, found.p_value) == (False, 1.0)
    assert found.effect > 0.1


def test_a_bias_on_the_other_side_of_zero_and_as_large_is_no_better():
    found = proved_better(
        1 + 0.1 * noise(40, 1), 0.1 * noise(60, 2) - 1, kind=MetricKind.TARGET_ZERO, min_effect=0.0
    )
    assert not found.is_better


def test_a_proof_needs_an_effect_that_matters():
    before, after = 10 + 0.01 * noise(30, 1), 9.9 + 0.01 * noise(30, 2)
    found = proved_better(before, after, kind=MetricKind.LOSS, min_effect=0.02)
    assert (found.is_better, found.n_after) == (False, 30)
    assert found.p_value < 0.01
    assert proved_better(before, after, kind=MetricKind.LOSS, min_effect=0.005).is_better


def test_outliers_neither_make_nor_prevent_a_proof():
    before, after = noise(20, 1), noise(40, 2)
    after[5], after[15] = 1e6, 1e3
    assert not proved_better(before, after, kind=HIGHER, min_effect=0.0).is_better
    assert proved_better(
        before - 4, after * np.resize([-1, 1], 40), kind=HIGHER, min_effect=0.0
    ).is_better


def test_one_evaluation_since_the_fall_is_enough_with_known_noise():
    found = proved_better([-9.0], noise(12, 2), earlier=noise(40, 3), kind=HIGHER, min_effect=0.0)
    assert found.is_better
    assert found.n_before == 1


@pytest.mark.parametrize(
    ("before", "after", "earlier", "needed"),
    [
        ([], noise(20), noise(40), 0),
        (noise(5), 9 + noise(20), noise(4), 0),
        (noise(20), 9 + noise(9), [], 1),
        (noise(20), [np.nan, *(9 + noise(9)), np.inf], [], 1),
        (noise(20), [], [], 10),
    ],
)
def test_too_little_proves_nothing(before, after, earlier, needed):
    found = proved_better(before, after, earlier=earlier, kind=HIGHER, min_effect=0.0)
    assert (found.is_better, found.p_value, found.needed) == (False, 1.0, needed)


def test_without_noise_the_levels_decide():
    ten = np.full(10, 0.3)
    assert proved_better(ten, ten + 0.1, kind=HIGHER, min_effect=0.02).is_better
    same = proved_better(ten, np.full(30, 0.1 + 0.2), kind=HIGHER, min_effect=0.0)
    assert (same.is_better, same.p_value) == (False, 1.0)
    assert proved_better(ten, 0 * ten, kind=MetricKind.LOSS, min_effect=0.02).is_better


def test_wrong_arguments():
    with pytest.raises(ValueError, match="alpha"):
        proved_better(noise(20), noise(20), kind=HIGHER, min_effect=0.0, alpha=1.0)
    counts = (np.ones(20), np.ones(19), [])
    with pytest.raises(ValueError, match="one length"):
        proved_better(noise(20), noise(20), counts=counts, kind=HIGHER, min_effect=0.0)


def test_figures_hold_within_binomial_error():
    for row in benchmark.rows(full=False):
        assert row.met, f"{row.name}: {row.measured}, promised {row.target}"
