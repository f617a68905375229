"""The promised figures on few seeded series, within three binomial standard errors."""

import pytest

from benchmarks import statistics_change_point as benchmark
from benchmarks.statistics_rows import print_table

QUICK = benchmark.Sample(40, is_exact=False)


@pytest.mark.parametrize(
    "section",
    [
        benchmark.unchanged,
        benchmark.watched_both_ways,
        benchmark.unchanged_with_counts,
        benchmark.changed,
        benchmark.gains,
        benchmark.latch,
        benchmark.collapse,
        benchmark.usual_rules,
    ],
)
def test_promises_are_kept(section):
    rows = section(QUICK)
    print_table(section.__name__, rows)
    assert rows
    assert [row for row in rows if not row.met] == []


def test_speed_is_measured():
    rows = benchmark.speed(full=False)
    assert all(row.measured.endswith("ms") for row in rows)


def test_quick_bounds_are_binomial_and_full_ones_are_the_targets():
    full = benchmark.Sample(100, is_exact=True)
    assert QUICK.at_most("", [True] * 4 + [False] * 36, 0.03).met is True
    assert QUICK.at_most("", [True] * 9 + [False] * 31, 0.03).met is False
    assert full.at_most("", [True] * 4 + [False] * 96, 0.03).met is False
    assert full.at_least("", [True] * 95 + [False] * 5, 0.95).met is True
