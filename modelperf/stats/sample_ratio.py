"""Whether the arms of a test got the share of units that was planned."""

from dataclasses import dataclass
from math import erfc, sqrt

SIGNIFICANT = 0.001
LARGEST_DEVIATION = 0.01  # of the share: a smaller one harms nobody, however certain


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Share of the units that arm A got, how likely chance is to do that, and whether it blocks."""

    share: float | None
    p_value: float
    is_off: bool


def sample_ratio(rows_a: int, rows_b: int, *, planned_a: float) -> SampleRatio:
    """Compare the units of two arms with the planned split by the chi-square test, 1 df.

    Parameters
    ----------
    rows_a, rows_b : int
        Units of the arms.
    planned_a : float
        Planned share of A, between 0 and 1.

    Returns
    -------
    SampleRatio
        `is_off` at p < .001 and a share at least .01 from the planned one: such a test compares
        units that were lost on their way, not models. Without units p is 1 and the share None.

    Raises
    ------
    ValueError
        A share that is not between 0 and 1, or negative numbers of units.
    """
    if not 0 < planned_a < 1 or min(rows_a, rows_b) < 0:
        raise ValueError("need 0 < planned_a < 1 and numbers of units")
    n = rows_a + rows_b
    if not n:
        return SampleRatio(share=None, p_value=1.0, is_off=False)
    z = (rows_a - n * planned_a) / sqrt(n * planned_a * (1 - planned_a))
    share, p_value = rows_a / n, erfc(abs(z) / sqrt(2))
    is_off = p_value < SIGNIFICANT and abs(share - planned_a) >= LARGEST_DEVIATION
    return SampleRatio(share=share, p_value=p_value, is_off=is_off)
