"""Sums of floats that come out the same in any order and any parts, bit for bit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CHUNK = 1 << 14
LARGEST = 2.0**500  # larger values are counted as infinite: their squares would be
_BITS = 38  # of a value added at once: 2**14 values of 38 bits stay below 2**53
_SPAN = 2 * _BITS  # from the largest value of a reference down to the unit of its sums


@dataclass(frozen=True, slots=True)
class ExactSum:
    """A sum of values, each rounded to a whole number of units of ``2**exponent``."""

    units: int
    exponent: int

    @property
    def exact(self) -> Fraction:
        """The sum as a fraction."""
        return Fraction(self.units) * Fraction(2) ** self.exponent

    @property
    def value(self) -> float:
        """The sum as the nearest float."""
        return float(self.exact)

    def __mul__(self, times: int) -> ExactSum:
        return ExactSum(self.units * times, self.exponent)

    def __add__(self, other: ExactSum) -> ExactSum:
        if self.exponent != other.exponent:
            raise ValueError("sums of different units cannot be added")
        return ExactSum(self.units + other.units, self.exponent)


def exponent_for(peak: float) -> int:
    """Return the unit, as a power of two, in which values up to `peak` are summed."""
    return max(math.frexp(peak)[1] - _SPAN, -1074)


def sum_units(values: Floats, peak: float, exponent: int) -> int:
    """Sum at most 2**14 values, each rounded to units of ``2**exponent``.

    Parameters
    ----------
    values : ndarray of float64
        Finite, at most `CHUNK` of them.
    peak : float
        At least their largest absolute value, at most ``2**1000``.
    exponent : int
        Of the unit.

    Returns
    -------
    int
        Number of units. Every value is rounded by itself (half to even), so the result depends
        on neither the order nor the parts.

    Notes
    -----
    Slices of 38 bits are taken off by adding and subtracting a large constant and are summed
    exactly, as all partial sums are integers below 2**53 (Demmel & Nguyen 2013, Fast Reproducible
    Floating-Point Summation).
    """
    total, rest, top = 0, values, math.frexp(peak)[1]
    while True:
        step = max(top - _BITS, exponent)
        rounding = math.ldexp(1.5, 52 + step)
        whole = rest + rounding
        whole -= rounding
        total += int(math.ldexp(float(whole.sum()), -step)) << (step - exponent)
        if step == exponent:
            return total
        rest, top = rest - whole, step
