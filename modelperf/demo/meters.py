"""The demo's six meters: what they are, what is known of them, and how their days are used."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

MODEL_TYPE = "baseline"
DAYS_HELD_BACK = 120
_NAMESPACE = uuid.UUID("6f1c5a52-7f0e-4f3c-9d0e-5f4f6d1c2b7a")

CHICAGO, LONDON = "America/Chicago", "Europe/London"
CHANGED_ON = date(2017, 1, 4)
WORKS = (date(2016, 12, 26), CHANGED_ON)  # both days included: neither before nor after

SIMULATED = (
    "Simulated usage on real weather of Springfield, Illinois. Every load is 10 % lower from"
    " 2017-01-04 on, after works that began on 2016-12-26."
)
HELD_BACK = (
    f"The last {DAYS_HELD_BACK} days are held back at the load:"
    " `manage.py replay_demo --every 5` records them."
)
REAL = "A meter of one real home in the United Kingdom. Nothing is known of changes."


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """One meter of the data file; days are local, a pair of them is half-open."""

    key: str
    name: str
    type: str
    unit: str
    location: str
    timezone: str
    is_simulated: bool
    first_training: tuple[date, date]
    second_training: tuple[date, date]
    days_held_back: int = 0

    @property
    def machine_id(self) -> uuid.UUID:
        """The same id in every installation, so that a second load finds the first."""
        return uuid.uuid5(_NAMESPACE, self.key)

    @property
    def zone(self) -> ZoneInfo:
        """The meter's time zone."""
        return ZoneInfo(self.timezone)

    def is_left_out(self, day: date) -> bool:
        """Whether the works went on that day."""
        return self.is_simulated and WORKS[0] <= day <= WORKS[1]

    @property
    def _notice(self) -> str:
        told = SIMULATED if self.is_simulated else REAL
        return f"{told} {HELD_BACK}" if self.days_held_back else told

    def metadata(self, *, shift_weeks: int) -> dict[str, Any]:
        """Return what the machine says of itself."""
        known: dict[str, Any] = {
            "notice": self._notice,
            "origin": "simulated" if self.is_simulated else "real",
            "unit": self.unit,
            "timezone": self.timezone,
            "demo": {"meter": self.key, "shift_weeks": shift_weeks},
            "training": {MODEL_TYPE: {"trainer": "energy_baseline"}},
        }
        if self.is_simulated:
            known["known_change"] = {
                "what": "every load is 10 % lower",
                "date": CHANGED_ON.isoformat(),
                "shown_as": (CHANGED_ON + timedelta(weeks=shift_weeks)).isoformat(),
            }
        return known


def _simulated(key: str, name: str, type: str, unit: str) -> Meter:
    # After the change there are 13 months: half a year, a winter's and a summer's part, to train
    # the second version on, and the rest to compare the two.
    after = WORKS[1] + timedelta(days=1)
    return Meter(
        key=key,
        name=name,
        type=type,
        unit=unit,
        location="Springfield, Illinois",
        timezone=CHICAGO,
        is_simulated=True,
        first_training=(date(2015, 11, 22), date(2016, 11, 22)),
        second_training=(after, after + timedelta(weeks=26)),
    )


def _real(key: str, name: str, type: str, *, days_held_back: int = 0) -> Meter:
    return Meter(
        key=key,
        name=name,
        type=type,
        unit="kWh",
        location="United Kingdom",
        timezone=LONDON,
        is_simulated=False,
        first_training=(date(2020, 4, 1), date(2021, 4, 1)),
        second_training=(date(2021, 4, 1), date(2022, 4, 1)),
        days_held_back=days_held_back,
    )


METERS = (
    _simulated(
        "il-electricity-cdd-hdd",
        "Electricity for heating and cooling (simulated)",
        "electricity meter",
        "kWh",
    ),
    _simulated(
        "il-electricity-cdd-only", "Electricity for cooling (simulated)", "electricity meter", "kWh"
    ),
    _simulated("il-gas-hdd-only", "Gas for heating (simulated)", "gas meter", "therm"),
    _simulated(
        "il-gas-intercept-only", "Gas whatever the weather (simulated)", "gas meter", "therm"
    ),
    _real(
        "uk-electricity",
        "Electricity of a home",
        "electricity meter",
        days_held_back=DAYS_HELD_BACK,
    ),
    _real("uk-gas", "Gas of a home", "gas meter"),
)
BY_KEY = {meter.key: meter for meter in METERS}
