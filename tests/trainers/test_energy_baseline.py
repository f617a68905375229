"""The trainer against independent implementations and against usage of known shape."""

import json
import uuid

import numpy as np
import pytest
import statsmodels.api as sm

from modelperf.trainers.base import TrainingError, find
from modelperf.trainers.degree_day_search import Grid, choose, held_out_predictions
from modelperf.trainers.degree_days import Observed, Profile, Shape, by_term, fit, predict
from modelperf.trainers.energy_baseline import DEFAULTS, EnergyBaseline, predict_usage, train_on
from modelperf.trainers.sources import Readings

GRID = Grid(
    heating=tuple(map(float, range(2, 23))),
    cooling=tuple(map(float, range(10, 29))),
)
HOURS = 24 * 364


def weather(seed: int = 1, hours: int = HOURS) -> tuple[np.ndarray, np.ndarray]:
    time = np.arange(hours)
    season = -11 * np.cos(2 * np.pi * time / (24 * 365))
    day = -4 * np.cos(2 * np.pi * (time % 24 - 3) / 24)
    return 12 + season + day + np.random.default_rng(seed).normal(0, 3, hours), time % 24


def observed(usage: np.ndarray, temperature: np.ndarray, hour: np.ndarray) -> Observed:
    fold = np.arange(len(usage)) // (24 * 7) % 5
    return Observed(usage=usage, temperature=temperature, hour=hour, fold=fold)


def readings(usage: np.ndarray, temperature: np.ndarray, hour: np.ndarray) -> Readings:
    starts = np.datetime64("2020-01-01", "s") + np.arange(len(usage)) * np.timedelta64(1, "h")
    features = {"temperature_c": temperature, "hour_of_day": hour}
    return Readings(starts=starts, target=usage, features=features)


def usage_of(temperature: np.ndarray, seed: int = 2, noise: float = 0.3) -> np.ndarray:
    clean = 2 + 0.2 * np.maximum(14 - temperature, 0) + 0.1 * np.maximum(temperature - 20, 0)
    return np.maximum(clean + np.random.default_rng(seed).normal(0, noise, len(temperature)), 0)


def test_fit_of_every_profile_equals_statsmodels_on_the_same_design():
    temperature, hour = weather()
    data = observed(usage_of(temperature), temperature, hour)
    for profile in Profile:
        shape = Shape(heating_point=14.0, cooling_point=20.0, profile=profile)
        hours = (hour[:, None] == np.arange(24)).astype(float)
        heating = np.maximum(14 - temperature, 0)[:, None]
        cooling = np.maximum(temperature - 20, 0)[:, None]
        design = {
            Profile.FLAT: np.hstack([np.ones_like(heating), heating, cooling]),
            Profile.HOURLY_BASE: np.hstack([hours, heating, cooling]),
            Profile.HOURLY: np.hstack([hours, hours * heating, hours * cooling]),
        }[profile]
        peer = sm.OLS(data.usage, design).fit()
        np.testing.assert_allclose(fit(data, shape), peer.params, rtol=1e-8, atol=1e-10)
        predicted = predict(shape, by_term(shape, fit(data, shape)), temperature, hour)
        np.testing.assert_allclose(predicted, np.maximum(peer.fittedvalues, 0), rtol=1e-8)


def test_choose_finds_the_balance_points_that_usage_was_made_with():
    temperature, hour = weather()
    shape = choose(observed(usage_of(temperature), temperature, hour), GRID)
    assert (shape.heating_point, shape.cooling_point) == (14.0, 20.0)
    assert shape.profile is Profile.FLAT


def test_choose_without_any_response_to_temperature_keeps_the_intercept():
    temperature, hour = weather()
    usage = np.random.default_rng(3).gamma(1.0, 1.0, HOURS)
    assert choose(observed(usage, temperature, hour), GRID) == Shape()


def test_choose_takes_hourly_amounts_where_hours_differ():
    temperature, hour = weather()
    usage = usage_of(temperature) + np.where(hour >= 18, 1.5, 0.0)
    shape = choose(observed(usage, temperature, hour), GRID)
    assert shape.profile is Profile.HOURLY_BASE
    heated = usage + np.where(hour >= 18, 0.3, 0.0) * np.maximum(14 - temperature, 0)
    assert choose(observed(heated, temperature, hour), GRID).profile is Profile.HOURLY


def naive_errors(data: Observed, shape: Shape) -> np.ndarray:
    """Fit each fold's complement with lstsq and return the mean squared errors on the folds."""
    errors = []
    for fold in np.unique(data.fold):
        seen, unseen = data.fold != fold, data.fold == fold
        design = shape.design(data.temperature, data.hour)
        amounts = np.linalg.lstsq(design[seen], data.usage[seen], rcond=None)[0]
        errors.append(np.mean((data.usage[unseen] - design[unseen] @ amounts) ** 2))
    return np.array(errors)


def test_choose_by_sums_of_products_equals_fitting_every_candidate_anew():
    temperature, hour = weather(hours=24 * 70)
    data = observed(usage_of(temperature, noise=1.0), temperature, hour)
    best = min(
        GRID.heating, key=lambda point: naive_errors(data, Shape(heating_point=point)).mean()
    )
    assert choose(data, Grid(heating=GRID.heating, cooling=())).heating_point == best
    gains = naive_errors(data, Shape()) - naive_errors(data, Shape(heating_point=best))
    assert gains.mean() > gains.std(ddof=1) / np.sqrt(5)


@pytest.mark.parametrize("profile", list(Profile))
def test_held_out_predictions_equal_fits_to_the_other_folds(profile):
    temperature, hour = weather(hours=24 * 105)
    usage = usage_of(temperature)
    if profile is not Profile.FLAT:
        usage = usage + np.where(hour >= 18, 1.5, 0.0)
    if profile is Profile.HOURLY:
        usage = usage + np.where(hour >= 18, 0.4, 0.0) * np.maximum(14 - temperature, 0)
    data = observed(usage, temperature, hour)
    one_point = Grid(heating=(14.0,), cooling=())
    shape = Shape(heating_point=14.0, profile=profile)
    assert choose(data, one_point) == shape
    design, expected = shape.design(temperature, hour), np.empty(len(usage))
    for fold in range(5):
        seen = data.fold != fold
        amounts = np.linalg.lstsq(design[seen], usage[seen], rcond=None)[0]
        expected[~seen] = np.maximum(design[~seen] @ amounts, 0)
    np.testing.assert_allclose(held_out_predictions(data, one_point), expected, rtol=1e-7)


def test_held_out_predictions_never_see_the_fold_they_predict():
    temperature, hour = weather(hours=24 * 105)
    usage = usage_of(temperature)
    data = observed(usage, temperature, hour)
    before = held_out_predictions(data, GRID)
    spoiled = np.where(data.fold == 2, usage + 100.0, usage)
    after = held_out_predictions(observed(spoiled, temperature, hour), GRID)
    np.testing.assert_array_equal(before[data.fold == 2], after[data.fold == 2])
    assert not np.array_equal(before[data.fold != 2], after[data.fold != 2])


def test_train_on_the_same_readings_twice_gives_the_same_model():
    temperature, hour = weather()
    data = readings(usage_of(temperature), temperature, hour)
    assert train_on(data, settings=DEFAULTS) == train_on(data, settings=DEFAULTS)


def test_train_on_gives_an_artefact_that_survives_json_and_predicts_as_the_model_did():
    temperature, hour = weather()
    usage = usage_of(temperature) + np.where(hour >= 18, 1.5, 0.0)
    trained = train_on(readings(usage, temperature, hour), settings=DEFAULTS)
    artefact = json.loads(json.dumps(trained.artefact))
    predicted = predict_usage(artefact, temperature_c=temperature, hour_of_day=hour)
    data = observed(usage, temperature, hour)
    shape = choose(data, GRID)
    expected = np.maximum(shape.design(temperature, hour) @ fit(data, shape), 0)
    np.testing.assert_allclose(predicted, expected, rtol=1e-9)
    assert trained.feature_names == ("temperature_c", "hour_of_day")
    assert trained.training_samples == HOURS
    error = usage - predicted
    assert trained.training_metrics["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))


def test_train_on_validates_out_of_sample():
    """Of 72 columns fitted to noise the training error is too good, the held-out error is not."""
    temperature, hour = weather(hours=24 * 84)
    usage = usage_of(temperature) + np.where(hour >= 12, 2.0, 0.0) * np.maximum(14 - temperature, 0)
    trained = train_on(readings(usage, temperature, hour), settings=DEFAULTS)
    assert trained.artefact["profile"] == "hourly"
    assert trained.validation_metrics["rmse"] > trained.training_metrics["rmse"]


def test_train_on_leaves_readings_without_usage_or_temperature_out():
    temperature, hour = weather()
    usage = usage_of(temperature)
    usage[5], temperature[7] = np.nan, np.inf
    trained = train_on(readings(usage, temperature, hour), settings=DEFAULTS)
    assert trained.training_samples == HOURS - 2


def test_predict_usage_is_never_negative():
    artefact = {
        "heating_point_c": None,
        "cooling_point_c": 10.0,
        "profile": "flat",
        "amounts": {"base": [1.0], "cooling": [-0.5]},
    }
    usage = predict_usage(artefact, temperature_c=[0.0, 11.0, 30.0], hour_of_day=[0, 1, 2])
    assert usage.tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"depth": 3}, "depth"),
        ({"folds": 2}, "folds"),
        ({"folds": True}, "folds"),
        ({"block_days": 0}, "block_days"),
        ({"heating_points_c": [20, 10]}, "heating_points_c"),
        ({"cooling_points_c": "10-20"}, "cooling_points_c"),
    ],
)
def test_train_with_a_wrong_hyperparameter_names_it(settings, word):
    from datetime import UTC, datetime

    from modelperf.models import Machine
    from modelperf.trainers.base import TrainingRequest

    with pytest.raises(TrainingError, match=word):
        find({"kind": "energy_baseline", "hyperparameters": settings})
    request = TrainingRequest(
        run_id=uuid.UUID(int=1),
        machine=Machine(name="a"),
        model_type="baseline",
        source={"kind": "demo", "meter": "uk-gas"},
        data_start=datetime(2020, 5, 1, tzinfo=UTC),
        data_end=datetime(2021, 5, 1, tzinfo=UTC),
        hyperparameters=settings,
    )
    watch = Told()
    with pytest.raises(TrainingError, match=word):
        EnergyBaseline().train(request, watch)
    assert watch.told == []


class Told:
    """A watch that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def progress(self, percent: float | None, message: str) -> None:
        self.told.append(message)

    def is_wanted(self) -> bool:
        return True


def test_train_on_too_few_days_says_how_many_it_needs():
    temperature, hour = weather(hours=24 * 50)
    with pytest.raises(TrainingError, match="at least 70 days"):
        train_on(readings(usage_of(temperature), temperature, hour), settings=DEFAULTS)


def test_train_on_readings_with_a_gap_that_empties_a_fold_says_so():
    temperature, hour = weather(hours=24 * 105)
    usage = usage_of(temperature)
    usage[np.arange(len(usage)) // (24 * 7) % 5 == 3] = np.nan
    with pytest.raises(TrainingError, match="gaps"):
        train_on(readings(usage, temperature, hour), settings=DEFAULTS)


def test_train_on_readings_without_usage_or_feature_says_so():
    temperature, hour = weather(hours=24 * 80)
    with pytest.raises(TrainingError, match="both a usage and a temperature"):
        train_on(readings(np.full(24 * 80, np.nan), temperature, hour), settings=DEFAULTS)
    without = readings(usage_of(temperature), temperature, hour)
    del without.features["hour_of_day"]  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="hour_of_day"):
        train_on(without, settings=DEFAULTS)


def test_find_knows_the_trainer_and_names_it_where_another_is_asked_for():
    assert isinstance(find({"kind": "energy_baseline"}), EnergyBaseline)
    with pytest.raises(TrainingError, match="energy_baseline"):
        find({"kind": "crystal_ball"})
