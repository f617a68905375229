"""Usage as a function of temperature: the shapes a baseline may have, and the choice among them.

Usage is a base load, plus so much for every degree below a heating balance point, plus so much for
every degree above a cooling balance point; each amount is one for all hours or one for each hour of
the day. Kissock, Haberl & Claridge (2003), Inverse Modeling Toolkit, ASHRAE Transactions 109, give
the change-point models; Mathieu et al. (2011), IEEE Transactions on Smart Grid 2, the hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]


class Profile(StrEnum):
    """Which amounts differ by hour of the day."""

    FLAT = "flat"
    HOURLY_BASE = "hourly_base"
    HOURLY = "hourly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The form of a baseline; a balance point of None leaves its part out."""

    heating_point: float | None = None
    cooling_point: float | None = None
    profile: Profile = Profile.FLAT

    def terms(self, temperature: Floats) -> dict[str, Floats]:
        """Return the columns that the amounts multiply, by name."""
        columns = {"base": np.ones(len(temperature))}
        if self.heating_point is not None:
            columns["heating"] = np.maximum(self.heating_point - temperature, 0.0)
        if self.cooling_point is not None:
            columns["cooling"] = np.maximum(temperature - self.cooling_point, 0.0)
        return columns

    def is_hourly(self, term: str) -> bool:
        """Whether a term has an amount for each hour of the day."""
        return self.profile is Profile.HOURLY or (
            self.profile is Profile.HOURLY_BASE and term == "base"
        )

    def design(self, temperature: Floats, hour: Ints) -> Floats:
        """Return the design matrix: one column a term, or 24 where it is hourly."""
        hours = np.eye(24)[hour]
        blocks = [
            hours * column[:, None] if self.is_hourly(term) else column[:, None]
            for term, column in self.terms(temperature).items()
        ]
        return np.hstack(blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Hourly usage with its temperature, hour of the day and fold of the cross-validation."""

    usage: Floats
    temperature: Floats
    hour: Ints
    fold: Ints

    def where(self, mask: NDArray[np.bool_]) -> Observed:
        """Return some of the readings."""
        return Observed(
            usage=self.usage[mask],
            temperature=self.temperature[mask],
            hour=self.hour[mask],
            fold=self.fold[mask],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The balance points tried, in °C."""

    heating: tuple[float, ...]
    cooling: tuple[float, ...]


def fit(observed: Observed, shape: Shape) -> Floats:
    """Return the least-squares amounts, one for each column of the design."""
    design = shape.design(observed.temperature, observed.hour)
    return np.asarray(np.linalg.lstsq(design, observed.usage, rcond=None)[0], float)


def predict(observed: Observed, shape: Shape, amounts: Floats) -> Floats:
    """Return predicted usage, which is never below zero."""
    design = shape.design(observed.temperature, observed.hour)
    return np.asarray(np.maximum(design @ amounts, 0.0))


def choose(observed: Observed, grid: Grid) -> Shape:
    """Choose form, balance points and profile by their error on held-out folds.

    Within a form the balance points with the least error win. From the simplest form on, a richer
    one is taken only where it lowers the held-out error by more than the standard error of that
    gain over the folds; the profiles then likewise. Ties go to the simpler and the colder.
    """
    current, errors = Shape(), _form_errors(observed, [Shape()])[0]
    single = [Shape(heating_point=point) for point in grid.heating]
    single += [Shape(cooling_point=point) for point in grid.cooling]
    both = [
        Shape(heating_point=low, cooling_point=high)
        for low, high in product(grid.heating, grid.cooling)
        if low <= high
    ]
    for candidates in (single, both):
        current, errors = _richer(current, errors, candidates, _form_errors(observed, candidates))
    for candidate in _profiles(current):
        design = candidate.design(observed.temperature, observed.hour)
        columns = np.arange(design.shape[1])[None, :]
        tried = _held_out_errors(design, observed, columns)
        current, errors = _richer(current, errors, [candidate], tried)
    return current


def held_out_predictions(observed: Observed, grid: Grid) -> Floats:
    """Predict every fold by a model that was chosen and fitted without it."""
    predicted = np.empty(len(observed.usage))
    for fold in np.unique(observed.fold):
        held_out = observed.fold == fold
        seen = observed.where(~held_out)
        shape = choose(seen, grid)
        predicted[held_out] = predict(observed.where(held_out), shape, fit(seen, shape))
    return predicted


def _profiles(shape: Shape) -> Iterator[Shape]:
    for profile in (Profile.HOURLY_BASE, Profile.HOURLY):
        yield Shape(
            heating_point=shape.heating_point, cooling_point=shape.cooling_point, profile=profile
        )


def _richer(
    current: Shape, errors: Floats, candidates: list[Shape], tried: Floats
) -> tuple[Shape, Floats]:
    best = int(np.argmin(tried.mean(axis=1)))
    gains = errors - tried[best]
    standard_error = gains.std(ddof=1) / np.sqrt(len(gains))
    if gains.mean() > standard_error:
        return candidates[best], tried[best]
    return current, errors


def _form_errors(observed: Observed, shapes: list[Shape]) -> Floats:
    """Held-out errors of flat shapes of equally many terms, from one matrix of all columns."""
    columns: dict[tuple[str, float | None], int] = {}
    matrix: list[Floats] = []
    subsets = []
    for shape in shapes:
        points = {"heating": shape.heating_point, "cooling": shape.cooling_point}
        subset = []
        for term, column in shape.terms(observed.temperature).items():
            name = (term, points.get(term))
            if name not in columns:
                columns[name] = len(matrix)
                matrix.append(column)
            subset.append(columns[name])
        subsets.append(subset)
    return _held_out_errors(np.column_stack(matrix), observed, np.array(subsets))


def _held_out_errors(matrix: Floats, observed: Observed, subsets: Ints) -> Floats:
    """Mean squared error on each fold of a fit to the others: shape (subsets, folds).

    Everything least squares needs of a fold are its sums of products, so that thousands of fits
    cost one pass over the readings.
    """
    parts = []
    for fold in np.unique(observed.fold):
        rows = observed.fold == fold
        x, y = matrix[rows], observed.usage[rows]
        parts.append((x.T @ x, x.T @ y, float(y @ y), len(y)))
    products = sum(part[0] for part in parts)
    moments = sum(part[1] for part in parts)
    pairs = (subsets[:, :, None], subsets[:, None, :])
    errors = np.empty((len(subsets), len(parts)))
    for index, (xx, xy, yy, n) in enumerate(parts):
        inverse = np.linalg.pinv((products - xx)[pairs], hermitian=True)
        amounts = np.einsum("sij,sj->si", inverse, (moments - xy)[subsets])
        explained = 2 * np.einsum("si,si->s", amounts, xy[subsets])
        squared = np.einsum("si,sij,sj->s", amounts, xx[pairs], amounts)
        errors[:, index] = (yy - explained + squared) / n
    return errors
