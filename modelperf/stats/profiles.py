"""Columns become profiles: counts in the cells of a reference, which add up exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelperf.stats import labels as names
from modelperf.stats.cells import (
    MOST_CELLS,
    Cells,
    FeatureKind,
    categorical_cells,
    numeric_cells,
)
from modelperf.stats.exact_sums import CHUNK, LARGEST, ExactSum, Floats, sum_units
from modelperf.stats.profile_types import LARGEST_SIZE, Profile, Reference

__all__ = [
    "FeatureKind",
    "Profile",
    "Reference",
    "merge",
    "profile_from_counts",
    "profile_of",
    "reference_from_counts",
    "reference_of",
]


def reference_of(values: ArrayLike, kind: FeatureKind | None = None) -> Reference:
    """Return the reference of a column that fits into memory.

    Parameters
    ----------
    values : array_like, one-dimensional
        Numbers, or labels (text, booleans, None for missing ones).
    kind : FeatureKind, optional
        Numeric for numbers and categorical for all else by default; booleans are categories.

    Returns
    -------
    Reference
        With at most 1,023 distinct numbers, a cell for each; otherwise about equal counts in 2,048
        cells. Fewer, where they would not pack into 20,000 bytes.

    Raises
    ------
    ValueError
        Where text is to be numeric, or `values` has more than one dimension.
    """
    column, kind = column_of(values, kind)
    if kind is FeatureKind.CATEGORICAL:
        return _categorical_reference(*names.count_labels(column.tolist()))
    distinct, counts = np.unique(column[np.abs(column) < LARGEST] + 0.0, return_counts=True)

    def reference(most: int) -> Reference:
        cells = numeric_cells(distinct, counts, most)
        return Reference(cells=cells, profile=_count_numbers(cells, column))

    return _fitting(reference)


def profile_of(values: ArrayLike, reference: Reference) -> Profile:
    """Count one window, or one part of it, in the cells of its reference.

    Parameters
    ----------
    values : array_like, one-dimensional
        Numbers or labels, as in `reference_of`. Integers beyond 2**53 are rounded to floats.
    reference : Reference
        Gives the cells.

    Returns
    -------
    Profile
        The same bytes for the same values in any order, and after `merge` in any parts.

    Raises
    ------
    ValueError
        Where text comes for a numeric reference, or `values` has more than one dimension.
    """
    column, kind = column_of(values, reference.kind)
    if kind is FeatureKind.CATEGORICAL:
        return _count_categories(reference.cells, *names.count_labels(column.tolist()))
    return _count_numbers(reference.cells, column)


def merge(profiles: Sequence[Profile]) -> Profile:
    """Add up profiles of one reference; their order and grouping make no difference.

    Parameters
    ----------
    profiles : sequence of Profile
        At least one, all counted in the same cells.

    Returns
    -------
    Profile
        As if all values had been counted at once, bit for bit.

    Raises
    ------
    ValueError
        Without profiles, or where they belong to different references.
    """
    if not profiles:
        raise ValueError("nothing to merge")
    first = profiles[0]
    if any(part.reference_digest != first.reference_digest for part in profiles):
        raise ValueError("profiles of different references cannot be merged")
    new: dict[str, int] = {}
    for part in profiles:
        for name, count in part.new.items():
            new[name] = new.get(name, 0) + count
    return Profile(
        reference_digest=first.reference_digest,
        n=sum(part.n for part in profiles),
        missing=sum(part.missing for part in profiles),
        counts=np.sum([part.counts for part in profiles], axis=0, dtype=np.int64),
        below=sum(part.below for part in profiles),
        above=sum(part.above for part in profiles),
        minimum=min((p.minimum for p in profiles if p.minimum is not None), default=None),
        maximum=max((p.maximum for p in profiles if p.maximum is not None), default=None),
        total=sum((part.total for part in profiles[1:]), first.total),
        squares=sum((part.squares for part in profiles[1:]), first.squares),
        new=names.sample(new),
        other=sum(part.other for part in profiles),
    )


def reference_from_counts(
    counts: Mapping[Any, int], kind: FeatureKind | None = None, missing: int = 0
) -> Reference:
    """Return the reference of values that somebody else has counted.

    Parameters
    ----------
    counts : mapping of number or label to int
        How often each value occurs; NaN and None are missing.
    kind : FeatureKind, optional
        As in `reference_of`.
    missing : int
        Further missing values.

    Returns
    -------
    Reference
        As `reference_of` returns it for the same values.

    Raises
    ------
    ValueError
        Where a count is negative, or text is to be numeric.
    """
    column, weights, kind = _counted(counts, kind)
    if kind is FeatureKind.CATEGORICAL:
        tally, unknown = names.add_labels(counts)
        return _categorical_reference(tally, unknown + missing)
    inside = (np.abs(column) < LARGEST) & (weights > 0)
    distinct, place = np.unique(column[inside] + 0.0, return_inverse=True)
    occurring = np.zeros(distinct.size, dtype=np.int64)
    np.add.at(occurring, place, weights[inside])

    def reference(most: int) -> Reference:
        cells = numeric_cells(distinct, occurring, most)
        return Reference(cells=cells, profile=_add_numbers(cells, column, weights, missing))

    return _fitting(reference)


def profile_from_counts(
    counts: Mapping[Any, int], reference: Reference, missing: int = 0
) -> Profile:
    """Return the profile of values that somebody else has counted.

    Parameters
    ----------
    counts : mapping of number or label to int
        How often each value occurs; NaN and None are missing.
    reference : Reference
        Gives the cells.
    missing : int
        Further missing values.

    Returns
    -------
    Profile
        As `profile_of` returns it for the same values, bit for bit.

    Raises
    ------
    ValueError
        Where a count is negative, or text comes for a numeric reference.
    """
    column, weights, kind = _counted(counts, reference.kind)
    if kind is FeatureKind.CATEGORICAL:
        tally, unknown = names.add_labels(counts)
        return _count_categories(reference.cells, tally, unknown + missing)
    return _add_numbers(reference.cells, column, weights, missing)


def _counted(
    counts: Mapping[Any, int], kind: FeatureKind | None
) -> tuple[Floats, NDArray[np.int64], FeatureKind]:
    weights = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
    if (weights < 0).any():
        raise ValueError("counts must not be negative")
    keys = np.fromiter(counts, dtype=object, count=len(counts))
    column, kind = column_of(keys, kind)
    return column, weights, kind


def column_of(values: ArrayLike, kind: FeatureKind | None) -> tuple[NDArray[Any], FeatureKind]:
    """Return values as floats or as objects, and their kind; errors as in `reference_of`."""
    column = np.asarray(values)
    if column.ndim != 1:
        raise ValueError("a column has one dimension")
    if kind is None:
        kind = _kind(column)
    if kind is FeatureKind.CATEGORICAL:
        return column, kind
    if column.dtype.kind in "OUS":
        column = np.array([None if names.is_missing(v) else v for v in column], dtype=object)
    try:
        return column.astype(np.float64, copy=False), kind
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("a numeric feature takes numbers only") from error


def _kind(column: NDArray[Any]) -> FeatureKind:
    if column.dtype.kind in "iuf":
        return FeatureKind.NUMERIC
    there = [value for value in column.tolist() if not names.is_missing(value)]
    numeric = all(map(names.is_number, there))
    return FeatureKind.NUMERIC if numeric else FeatureKind.CATEGORICAL


def _fitting(reference: Callable[[int], Reference]) -> Reference:
    """Return the reference with the most cells that is small enough."""
    most = MOST_CELLS
    while len((built := reference(most)).to_bytes()) > LARGEST_SIZE:
        most //= 2
    return built


def _categorical_reference(tally: Counter[str], missing: int) -> Reference:
    cells = categorical_cells(tally)
    return Reference(cells=cells, profile=_count_categories(cells, tally, missing))


def _count_categories(cells: Cells, tally: Counter[str], missing: int) -> Profile:
    new = {name: count for name, count in tally.items() if name not in cells.places}
    return Profile(
        reference_digest=cells.digest,
        n=tally.total(),
        missing=missing,
        counts=np.array([tally[name] for name in cells.categories], dtype=np.int64),
        new=names.sample(new),
        other=sum(new.values()),
    )


def _count_numbers(cells: Cells, column: NDArray[Any]) -> Profile:
    """Count a column chunk by chunk, so that all steps stay in the cache."""
    counts = np.zeros(cells.size, dtype=np.int64)
    missing = below = above = total = squares = 0
    low, high = np.inf, -np.inf
    for start in range(0, column.size, CHUNK):
        chunk = column[start : start + CHUNK]
        least, most = float(chunk.min()), float(chunk.max())
        if not (least > -LARGEST and most < LARGEST):
            missing += int(np.isnan(chunk).sum())
            below += int((chunk <= -LARGEST).sum())
            above += int((chunk >= LARGEST).sum())
            chunk = chunk[np.abs(chunk) < LARGEST]
            if not chunk.size:
                continue
            least, most = float(chunk.min()), float(chunk.max())
        low, high = min(low, least), max(high, most)
        counts += np.bincount(cells.lookup.cells(chunk), minlength=cells.size)
        total += sum_units(chunk, max(-least, most), cells.exponent)
        off = chunk - cells.centre
        reach = max(cells.centre - least, most - cells.centre)
        off *= off
        squares += sum_units(off, reach * reach, cells.square_exponent)
    counts[0] += below
    counts[-1] += above
    return Profile(
        reference_digest=cells.digest,
        n=int(counts.sum()),
        missing=missing,
        counts=counts,
        below=below,
        above=above,
        minimum=low + 0.0 if low <= high else None,
        maximum=high + 0.0 if low <= high else None,
        total=ExactSum(total, cells.exponent),
        squares=ExactSum(squares, cells.square_exponent),
    )


def _add_numbers(cells: Cells, column: Floats, weights: NDArray[np.int64], missing: int) -> Profile:
    """Count values that occur so often."""
    parts = [_count_numbers(cells, column[:0])]
    for place in np.flatnonzero(weights):
        one, times = _count_numbers(cells, column[place : place + 1]), int(weights[place])
        parts.append(
            replace(
                one,
                n=one.n * times,
                missing=one.missing * times,
                counts=one.counts * times,
                below=one.below * times,
                above=one.above * times,
                total=one.total * times,
                squares=one.squares * times,
            )
        )
    whole = merge(parts)
    return replace(whole, missing=whole.missing + missing)
