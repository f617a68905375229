"""One line of a benchmark table: what was promised, what was measured, whether it holds."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One promise of the statistics and the figure a seeded simulation gives for it."""

    name: str
    target: str
    measured: str
    met: bool


def print_table(title: str, rows: Iterable[Row]) -> None:
    """Print the rows under a title, a mark before each promise that is not kept."""
    print(f"\n{title}\n{'-' * len(title)}")
    for row in rows:
        mark = " " if row.met else "!"
        print(f"{mark} {row.name:<58} {row.target:<34} {row.measured}")
