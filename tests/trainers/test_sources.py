from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from modelperf.models import Machine
from modelperf.trainers import sources
from modelperf.trainers.base import TrainingError

START = datetime(2021, 1, 1, tzinfo=UTC)


def read(source: str, machine: Machine | None = None, start: datetime = START):
    return sources.read(
        source, machine=machine or Machine(name="a"), start=start, end=start + timedelta(days=2)
    )


def test_read_returns_the_window_in_order():
    readings = read("demo:uk-gas")
    assert len(readings) == 48
    assert readings.starts[0] == np.datetime64("2021-01-01T00:00")
    assert (np.diff(readings.starts) == np.timedelta64(1, "h")).all()
    assert set(readings.features) == {"temperature_c", "hour_of_day"}


def test_read_of_a_moved_machine_returns_the_same_readings_at_the_time_shown():
    machine = Machine(name="a", metadata={"demo": {"shift_weeks": 52}})
    moved = read("demo:uk-gas", machine, START + timedelta(weeks=52))
    original = read("demo:uk-gas")
    assert moved.target.tolist() == original.target.tolist()
    assert (moved.starts - original.starts == np.timedelta64(52, "W")).all()


@pytest.mark.parametrize("source", ["", "demo", "demo:", "s3:bucket", "os.system:ls"])
def test_read_of_an_unknown_source_names_the_known_ones(source):
    with pytest.raises(TrainingError, match=r"Known sources: demo:"):
        read(source)


def test_read_of_an_unknown_meter_names_the_meters():
    with pytest.raises(TrainingError, match="il-gas-hdd-only"):
        read("demo:no-such-meter")


def test_read_of_an_empty_window_says_which():
    with pytest.raises(TrainingError, match="no readings from 1999-01-01 to 1999-01-03"):
        read("demo:uk-gas", start=datetime(1999, 1, 1, tzinfo=UTC))
