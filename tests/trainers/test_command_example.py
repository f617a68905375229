"""The example of a command in docs/examples/ trains for real, and what it keeps predicts."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import joblib
import numpy as np
import pytest
from pytest_django import Settings

from modelperf.trainers import base, command_result
from modelperf.trainers.base import TrainedModel, TrainingError
from tests.trainers.scripts import START, Commands, Told

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "sklearn_forecast"
DAYS = 42


def documents() -> list[dict[str, object]]:
    """Return the JSON objects of the example's page."""
    page = (EXAMPLE / "README.md").read_text()
    begins = [found.start() for found in re.finditer(r'^    \{"', page, re.MULTILINE)]
    return [json.JSONDecoder().raw_decode(page[at:].lstrip())[0] for at in begins]


def usage(temperature: np.ndarray, hour: np.ndarray, weekday: np.ndarray) -> np.ndarray:
    return 2.0 + 0.3 * np.maximum(15 - temperature, 0) + (hour > 6) + 0.5 * (weekday > 4)


@pytest.fixture
def commands(tmp_path: Path, settings: Settings) -> Commands:
    there = Commands(tmp_path, settings)
    code = (EXAMPLE / "train.py").read_text().split("\n", maxsplit=1)[1]
    there.write(code, name="train.py")  # its first line names the Python that has scikit-learn
    settings.SOURCE_DIR = tmp_path.resolve()
    randomly = np.random.default_rng(1)
    moments = [START + timedelta(hours=n) for n in range(24 * DAYS)]
    temperature = 10 + 8 * randomly.standard_normal(len(moments))
    hour, weekday = (
        np.array([one(moment) for moment in moments])
        for one in (lambda moment: moment.hour, datetime.weekday)
    )
    value = usage(temperature, hour, weekday) + 0.2 * randomly.standard_normal(len(moments))
    rows = zip(moments, value, temperature, strict=True)
    lines = [f"{moment:%FT%TZ},{value:.3f},{outside:.2f}" for moment, value, outside in rows]
    lines[7] = f"{moments[7]:%FT%TZ},,3.0"  # not measured
    lines[9] = f"{moments[9]:%FT%TZ},4.0,"
    (tmp_path / "pump 7.csv").write_text("\n".join(["time,value,temperature", *lines]))
    return there


def train(commands: Commands, watch: Told | None = None, **hyperparameters: object) -> TrainedModel:
    policy = documents()[0]
    trainer, source = policy["trainer"], policy["training_source"]
    assert isinstance(trainer, dict)
    request = commands.request(
        source=source,
        data_end=START + timedelta(days=DAYS),
        hyperparameters={**trainer["hyperparameters"], **hyperparameters},
    )
    trained = base.find(trainer).train(request, watch or Told())
    assert isinstance(trained, TrainedModel)
    return trained


def test_example_trains_and_what_it_keeps_predicts(commands: Commands) -> None:
    watch = Told()
    trained = train(commands, watch)

    assert trained.training_samples == 24 * DAYS - 1
    assert trained.feature_names == ("hour_of_day", "temperature_c", "weekday")
    assert trained.hyperparameters["max_iter"] == 300  # as the page's policy says
    # The noise has a spread of 0.2, a mean absolute size of 0.16; no forecast can do better.
    assert 0.15 < trained.validation_metrics["mae"] < 0.35
    assert trained.training_metrics["mae"] < trained.validation_metrics["mae"]
    assert 0.9 < trained.validation_metrics["r_squared"] < 1
    assert watch.steps[-1] == (90.0, f"fits all {24 * DAYS - 1:,} readings")

    profiles = trained.reference_profiles[0]["columns"]
    assert tuple(profiles) == trained.feature_names
    assert profiles["temperature_c"].count(None) == 1
    assert sorted(set(profiles["weekday"])) == list(range(7))

    path = Path(trained.artefact["file"])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == trained.artefact["sha256"]
    cold_night, warm_day = joblib.load(path).predict([[3, -2.0, 0], [12, 20.0, 6]])
    expected = usage(np.array([-2.0, 20.0]), np.array([3, 12]), np.array([0, 6]))
    assert np.allclose([cold_night, warm_day], expected, atol=0.6)
    assert path.is_relative_to(commands.training / "artefacts")


def test_example_says_what_is_wrong(commands: Commands) -> None:
    with pytest.raises(TrainingError, match="exit status 1") as raised:
        train(commands, depth=3)
    assert "There is no hyperparameter 'depth'. There are max_iter" in raised.value.log


def test_result_of_the_page_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(documents()[1]))
    result = command_result.read(path, hyperparameters={}, log="")
    assert result.validation_metrics["mae"] == 0.21
