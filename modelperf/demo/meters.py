"""The demo's six meters: what they are, what is known of them, and how their days are used."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

MODEL_TYPE = "baseline"
_NAMESPACE = uuid.UUID("6f1c5a52-7f0e-4f3c-9d0e-5f4f6d1c2b7a")

CHICAGO, LONDON = "America/Chicago", "Europe/London"
CHANGED_ON = date(2017, 1, 4)
WORKS = (date(2016, 12, 26), CHANGED_ON)  # both days included: neither before nor after
AFTER = CHANGED_ON + timedelta(days=1)

SIMULATED = (
    "Simulated usage on real weather of Springfield, Illinois. Every load is 10 % lower from"
    " 2017-01-04 on, after works that began on 2016-12-26."
)
HELD_BACK = (
    "The days from {from_day} on are held back at the load: `manage.py replay_demo` records them"
    " one by one, and its policy trains a new version when it is found to have changed."
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
    held_back_from: date | None = None  # these days are left to the replay

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
        if self.held_back_from is None:
            return told
        return f"{told} {HELD_BACK.format(from_day=self.held_back_from)}"

    def metadata(self, *, shift_weeks: int) -> dict[str, Any]:
        """Return what the machine says of itself."""
        known: dict[str, Any] = {
            "notice": self._notice,
            "origin": "simulated" if self.is_simulated else "real",
            "unit": self.unit,
            "timezone": self.timezone,
            "demo": {"meter": self.key, "shift_weeks": shift_weeks},
        }
        if self.is_simulated:
            known["known_change"] = {
                "what": "every load is 10 % lower",
                "date": CHANGED_ON.isoformat(),
                "shown_as": (CHANGED_ON + timedelta(weeks=shift_weeks)).isoformat(),
            }
        return known


def _simulated(
    key: str, name: str, type: str, unit: str, *, held_back_from: date | None = None
) -> Meter:
    # After the change there are 13 months: half a year, a winter's and a summer's part, to train
    # the second version on, and the rest to compare the two.
    return Meter(
        key=key,
        name=name,
        type=type,
        unit=unit,
        location="Springfield, Illinois",
        timezone=CHICAGO,
        is_simulated=True,
        first_training=(date(2015, 11, 22), date(2016, 11, 22)),
        second_training=(AFTER, AFTER + timedelta(weeks=26)),
        held_back_from=held_back_from,
    )


def _real(key: str, name: str, type: str) -> Meter:
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
        "il-gas-intercept-only",
        "Gas whatever the weather (simulated)",
        "gas meter",
        "therm",
        held_back_from=AFTER,
    ),
    _real("uk-electricity", "Electricity of a home", "electricity meter"),
    _real("uk-gas", "Gas of a home", "gas meter"),
)
BY_KEY = {meter.key: meter for meter in METERS}
(REPLAYED,) = (meter for meter in METERS if meter.held_back_from)
COMPARED = tuple(meter for meter in METERS if meter is not REPLAYED)  # have two versions as loaded
