"""The data file and its local days, against an independent reading of it."""

import csv
import gzip
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from modelperf.demo.evaluation import evaluated_days, held_back_days, shown_days
from modelperf.demo.meters import CHANGED_ON, METERS, REPLAYED, WORKS
from modelperf.demo.readings import DATA_FILE, midnight, of_meter, whole_days

ROWS = {"il": 19_417, "uk": 23_508}


def rows(key: str) -> list[tuple[datetime, float]]:
    with gzip.open(DATA_FILE, "rt") as lines:
        return [
            (datetime.fromisoformat(row["timestamp"]).astimezone(UTC), float(row["usage"]))
            for row in csv.DictReader(lines)
            if row["meter"] == key
        ]


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.key)
def test_of_meter_holds_every_row_of_the_file(meter):
    readings, expected = of_meter(meter.key), rows(meter.key)
    assert len(readings.usage) == ROWS[meter.key[:2]] == len(expected)
    assert readings.usage.sum() == pytest.approx(sum(usage for _, usage in expected))
    assert str(readings.starts[0]) == f"{min(expected)[0]:%Y-%m-%dT%H:%M:%S}"


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.key)
def test_whole_days_are_the_local_days_with_a_reading_for_each_hour(meter):
    zone = ZoneInfo("America/Chicago" if meter.key.startswith("il") else "Europe/London")
    by_day: dict[date, float] = {}
    hours = Counter()
    for start, usage in rows(meter.key):
        day = start.astimezone(zone).date()
        by_day[day] = by_day.get(day, 0.0) + usage
        hours[day] += 1
    days = {day.day: day for day in whole_days(meter)}
    partial = {day for day, n in hours.items() if n < 23}
    assert set(days) == set(hours) - partial
    assert {day: len(days[day].usage) for day in days} == {day: hours[day] for day in days}
    for day, found in days.items():
        assert found.usage.sum() == pytest.approx(by_day[day])
        assert found.start.astimezone(zone).time() == datetime.min.time()
        assert found.hour_of_day[0] == 0
        assert found.hour_of_day[-1] == 23
    assert set(Counter(len(day.usage) for day in days.values())) == {23, 24, 25}


def test_midnight_is_local():
    assert midnight(date(2016, 7, 1), METERS[0]) == datetime(2016, 7, 1, 5, tzinfo=UTC)
    assert midnight(date(2016, 1, 1), METERS[0]) == datetime(2016, 1, 1, 6, tzinfo=UTC)


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.key)
def test_evaluated_days_begin_after_the_first_training_and_leave_the_works_out(meter):
    days = [day.day for day in evaluated_days(meter)]
    assert days[0] == meter.first_training[1]
    assert meter.first_training[1] - meter.first_training[0] >= timedelta(days=365)
    if meter.is_simulated:
        assert sum(day < WORKS[0] for day in days) == 34
        assert not [day for day in days if WORKS[0] <= day <= WORKS[1]]
        assert meter.second_training[0] > CHANGED_ON


def test_held_back_days_are_those_after_the_works_of_one_meter():
    assert [meter for meter in METERS if held_back_days(meter)] == [REPLAYED]
    assert held_back_days(REPLAYED)[0].day == CHANGED_ON + timedelta(days=1)
    for meter in METERS:
        assert shown_days(meter) + held_back_days(meter) == evaluated_days(meter)


def test_the_data_file_is_small_and_comes_with_its_notice():
    assert DATA_FILE.stat().st_size < 1_000_000
    notice = Path(DATA_FILE.parent, "NOTICE.md").read_text()
    assert "Apache License 2.0" in notice
    assert all(meter.key in notice for meter in METERS)
