"""What metrics are called and measured in, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNITLESS, PERCENT, TARGET = "", "%", "target unit"


@dataclass(frozen=True, slots=True)
class MetricName:
    """A metric's label, its unit and how to read it."""

    key: str
    label: str
    unit: str
    reading: str

    @property
    def heading(self) -> str:
        """The label with its unit: `MAPE, %`."""
        return f"{self.label}, {self.unit}" if self.unit else self.label


HIGHER, LOWER, ZERO = "higher is better", "lower is better", "0 is best"
KNOWN: dict[str, tuple[str, str, str]] = {
    "r_squared": ("R²", UNITLESS, f"1 is perfect, {HIGHER}"),
    "rmse": ("RMSE", TARGET, LOWER),
    "mae": ("MAE", TARGET, LOWER),
    "mape": ("MAPE", PERCENT, LOWER),
    "precision_score": ("Precision", UNITLESS, HIGHER),
    "recall_score": ("Recall", UNITLESS, HIGHER),
    "f1_score": ("F1", UNITLESS, HIGHER),
    "nmbe": ("Bias (NMBE)", PERCENT, ZERO),
    "cv_rmse": ("CV(RMSE)", PERCENT, LOWER),
    "wape": ("WAPE", PERCENT, LOWER),
}


def named(key: str, metadata: Mapping[str, Any] | None = None) -> MetricName:
    """Return what a metric is called; losses are in the machine's `unit` where it says one.

    A machine's metadata may name the unit of any metric: `{"units": {"nmbe": "%"}}`.
    """
    label, unit, reading = KNOWN.get(key, (key, UNITLESS, ""))
    told = (metadata or {}).get("units")
    if isinstance(told, dict) and isinstance(told.get(key), str):
        unit = told[key]
    elif unit == TARGET:
        own = (metadata or {}).get("unit")
        unit = own if isinstance(own, str) else UNITLESS
    return MetricName(key, label, unit, reading)
