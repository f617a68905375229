"""The choice among baselines by their error on held-out folds.

All that least squares needs of a fold are its sums of products, kept here by hour of the day.
One pass over the readings thus serves every form, balance point and profile, and every subset of
the folds: hundreds of fits cost no more than their small systems of equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from modelperf.trainers.degree_days import Floats, Observed, Profile, Shape, by_term, predict

# Eigenvalues this much smaller than the largest are a column that is zero on these readings.
_NEGLIGIBLE = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The balance points tried, in °C."""

    heating: tuple[float, ...]
    cooling: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Sums of products by fold and hour, of one column a balance point and of usage.

    Shapes: products (folds, 24, columns, columns), moments (folds, 24, columns), squares and
    counts (folds,).
    """

    grid: Grid
    products: Floats
    moments: Floats
    squares: Floats
    counts: Floats

    def of(self, folds: NDArray[np.bool_]) -> _Sums:
        """Return the sums of some of the folds."""
        return _Sums(
            grid=self.grid,
            products=self.products[folds],
            moments=self.moments[folds],
            squares=self.squares[folds],
            counts=self.counts[folds],
        )

    def columns(self, shape: Shape) -> list[int]:
        """Return which columns the terms of a shape are."""
        found = [0]
        if shape.heating_point is not None:
            found.append(1 + self.grid.heating.index(shape.heating_point))
        if shape.cooling_point is not None:
            found.append(1 + len(self.grid.heating) + self.grid.cooling.index(shape.cooling_point))
        return found


def choose(observed: Observed, grid: Grid) -> Shape:
    """Choose form, balance points and profile by their error on held-out folds.

    Within a form the balance points with the least error win. From the simplest form on, a richer
    one is taken only where it lowers the held-out error by more than the standard error of that
    gain over the folds; the profiles then likewise. Ties go to the simpler and the colder.
    """
    return _choose(_sums(observed, grid))


def held_out_predictions(observed: Observed, grid: Grid) -> Floats:
    """Predict every fold by a model that was chosen and fitted without it."""
    sums = _sums(observed, grid)
    predicted = np.empty(len(observed.usage))
    for index, fold in enumerate(np.unique(observed.fold)):
        seen = sums.of(np.arange(len(sums.counts)) != index)
        shape = _choose(seen)
        held_out = observed.fold == fold
        temperature, hour = observed.temperature[held_out], observed.hour[held_out]
        amounts = by_term(shape, _amounts(seen, shape))
        predicted[held_out] = predict(shape, amounts, temperature, hour)
    return predicted


def _sums(observed: Observed, grid: Grid) -> _Sums:
    heating = [Shape(heating_point=point) for point in grid.heating]
    cooling = [Shape(cooling_point=point) for point in grid.cooling]
    columns = [np.ones(len(observed.usage))]
    columns += [shape.terms(observed.temperature)["heating"] for shape in heating]
    columns += [shape.terms(observed.temperature)["cooling"] for shape in cooling]
    matrix, folds = np.column_stack(columns), np.unique(observed.fold)
    width = matrix.shape[1]
    products, moments = np.zeros((len(folds), 24, width, width)), np.zeros((len(folds), 24, width))
    for (f, fold), hour in product(enumerate(folds), range(24)):
        rows = np.flatnonzero((observed.fold == fold) & (observed.hour == hour))
        x, y = matrix[rows], observed.usage[rows]
        products[f, hour], moments[f, hour] = x.T @ x, x.T @ y
    own = observed.fold == folds[:, None]
    return _Sums(
        grid=grid,
        products=products,
        moments=moments,
        squares=own @ observed.usage**2,
        counts=own.sum(axis=1).astype(float),
    )


def _choose(sums: _Sums) -> Shape:
    single = [Shape(heating_point=point) for point in sums.grid.heating]
    single += [Shape(cooling_point=point) for point in sums.grid.cooling]
    both = [
        Shape(heating_point=low, cooling_point=high)
        for low, high in product(sums.grid.heating, sums.grid.cooling)
        if low <= high
    ]
    current, errors = Shape(), _flat_errors(sums, [Shape()])[0]
    for candidates in (single, both):
        if candidates:
            tried = _flat_errors(sums, candidates)
            current, errors = _richer(current, errors, candidates, tried)
    for profile in (Profile.HOURLY_BASE, Profile.HOURLY):
        candidate = Shape(
            heating_point=current.heating_point,
            cooling_point=current.cooling_point,
            profile=profile,
        )
        tried = _profile_errors(sums, candidate)[None, :]
        current, errors = _richer(current, errors, [candidate], tried)
    return current


def _richer(
    current: Shape, errors: Floats, candidates: Sequence[Shape], tried: Floats
) -> tuple[Shape, Floats]:
    best = int(np.argmin(tried.mean(axis=1)))
    gains = errors - tried[best]
    standard_error = gains.std(ddof=1) / np.sqrt(len(gains))
    if gains.mean() > standard_error:
        return candidates[best], tried[best]
    return current, errors


def _flat_errors(sums: _Sums, shapes: Sequence[Shape]) -> Floats:
    """Mean squared error of shapes of equally many terms on each fold: (shapes, folds)."""
    columns = np.array([sums.columns(shape) for shape in shapes])
    products = sums.products.sum(axis=1)[:, columns[:, :, None], columns[:, None, :]]
    moments = sums.moments.sum(axis=1)[:, columns]
    explained = _explained(products, moments)
    return np.asarray((sums.squares[:, None] - explained) / sums.counts[:, None]).T


def _profile_errors(sums: _Sums, shape: Shape) -> Floats:
    """Mean squared error of one shape on each fold; its hours are systems of their own or one."""
    explained = _explained(*_equations(sums, shape)).sum(axis=1)
    return np.asarray((sums.squares - explained) / sums.counts)


def _explained(products: Floats, moments: Floats) -> Floats:
    """Return what a fit to the other folds explains of each: (folds, systems)."""
    amounts = _solve(products.sum(axis=0) - products, moments.sum(axis=0) - moments)
    squared = np.einsum("fsi,fsij,fsj->fs", amounts, products, amounts, optimize=True)
    return np.asarray(2 * np.einsum("fsi,fsi->fs", amounts, moments) - squared)


def _amounts(sums: _Sums, shape: Shape) -> Floats:
    """Return the least-squares amounts of all folds together, in the order of the design."""
    products, moments = _equations(sums, shape)
    return _solve(products.sum(axis=0), moments.sum(axis=0)).T.ravel()


def _equations(sums: _Sums, shape: Shape) -> tuple[Floats, Floats]:
    """Return normal equations by fold: (folds, systems, n, n) and (folds, systems, n)."""
    columns = sums.columns(shape)
    products = sums.products[..., columns, :][..., columns]
    moments = sums.moments[..., columns]
    if shape.profile is Profile.HOURLY:
        return products, moments
    if shape.profile is Profile.FLAT:
        return products.sum(axis=1, keepdims=True), moments.sum(axis=1, keepdims=True)
    hours = np.eye(24) * products[:, :, 0, 0][:, :, None]
    cross = products[:, :, 0, 1:]
    slopes = products[:, :, 1:, 1:].sum(axis=1)
    joined = np.block([[hours, cross], [cross.swapaxes(1, 2), slopes]])
    right = np.concatenate([moments[:, :, 0], moments[:, :, 1:].sum(axis=1)], axis=1)
    return joined[:, None], right[:, None]


def _solve(products: Floats, moments: Floats) -> Floats:
    inverse = np.linalg.pinv(products, rcond=_NEGLIGIBLE, hermitian=True)
    return np.asarray((inverse @ moments[..., None])[..., 0])
