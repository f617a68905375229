"""Usage as a function of temperature: the shapes that a baseline may have.

Usage is a base load, plus so much for every degree below a heating balance point, plus so much for
every degree above a cooling balance point; each amount is one for all hours or one for each hour of
the day. Kissock, Haberl & Claridge (2003), Inverse Modeling Toolkit, ASHRAE Transactions 109, give
the change-point models; Mathieu et al. (2011), IEEE Transactions on Smart Grid 2, the hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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


def fit(observed: Observed, shape: Shape) -> Floats:
    """Return the least-squares amounts, one for each column of the design."""
    design = shape.design(observed.temperature, observed.hour)
    return np.asarray(np.linalg.lstsq(design, observed.usage, rcond=None)[0], float)


def by_term(shape: Shape, amounts: Floats) -> dict[str, Floats]:
    """Return the amounts of each term: one, or 24 where they differ by hour."""
    named, position = {}, 0
    for term in shape.terms(np.zeros(1)):
        width = 24 if shape.is_hourly(term) else 1
        named[term] = amounts[position : position + width]
        position += width
    return named


def predict(shape: Shape, amounts: Mapping[str, Floats], temperature: Floats, hour: Ints) -> Floats:
    """Return predicted usage, which is never below zero."""
    usage = np.zeros(len(temperature))
    for term, column in shape.terms(temperature).items():
        usage += amounts[term][hour % len(amounts[term])] * column
    return np.asarray(np.maximum(usage, 0.0))
