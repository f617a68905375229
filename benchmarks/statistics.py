"""Rerun every simulation the statistics are promised by: ``python -m benchmarks.statistics``."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import (
    statistics_change_point,
    statistics_distributions,
    statistics_fleet,
    statistics_improvement,
    statistics_outlook,
    statistics_row_losses,
    statistics_sequential,
    statistics_trend,
    statistics_warm_start,
)
from benchmarks.statistics_rows import print_table

SECTIONS = {
    "change_point": ("Performance drift of one series", statistics_change_point.rows),
    "distributions": ("Data drift", statistics_distributions.rows),
    "fleet": ("Fleet control, common causes and seasons", statistics_fleet.rows),
    "improvement": ("Proof of a better version", statistics_improvement.rows),
    "outlook": ("Outlook: when a limit is crossed", statistics_outlook.rows),
    "row_losses": ("A/B tests of row losses", statistics_row_losses.rows),
    "sequential": ("A/B tests of windows", statistics_sequential.rows),
    "trend": ("Trend", statistics_trend.rows),
    "warm_start": ("Warm start of a new version", statistics_warm_start.rows),
}


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--quick", action="store_true", help="few series, binomial bounds (default)")
    mode.add_argument("--full", action="store_true", help="the targets themselves, minutes")
    parser.add_argument("--section", choices=SECTIONS, action="append", help="only this one")
    options = parser.parse_args(arguments)
    missed = 0
    for name in options.section or SECTIONS:
        title, rows = SECTIONS[name]
        start = perf_counter()
        found = rows(options.full)
        print_table(f"{title} ({perf_counter() - start:.0f} s)", found)
        missed += sum(not row.met for row in found)
    print(f"\n{missed} promises not kept" if missed else "\nevery promise kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
