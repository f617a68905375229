"""Finding the cell of a value fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelperf.stats.exact_sums import Floats


class CellLookup:
    """Finds cells as ``searchsorted(cuts, values, side="right")`` does."""

    def __init__(self, cuts: Floats) -> None:
        self.cuts = cuts

    def cells(self, values: Floats) -> NDArray[Any]:
        """Return the cell of each finite value."""
        return np.searchsorted(self.cuts, values, side="right")
