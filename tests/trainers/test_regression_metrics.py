import numpy as np
import pytest

from modelperf.trainers.regression_metrics import regression_metrics


def test_regression_metrics_of_a_small_example_equal_their_definitions():
    metrics = regression_metrics([1.0, 2.0, 3.0, 6.0], [2.0, 2.0, 2.0, 4.0])
    assert metrics == pytest.approx(
        {
            "rmse": np.sqrt(6 / 4),
            "mae": 1.0,
            "r_squared": 1 - 6 / 14,
            "mape": 100 * (1 / 1 + 0 + 1 / 3 + 2 / 6) / 4,
            "cv_rmse": 100 * np.sqrt(6 / 4) / 3,
            "nmbe": 100 * (-2 / 10),
        }
    )


def test_regression_metrics_of_a_tenth_less_used_than_expected_have_a_bias_of_ten():
    expected = np.array([1.0, 2.0, 5.0])
    assert regression_metrics(0.9 * expected, expected)["nmbe"] == pytest.approx(10.0)


def test_regression_metrics_leave_readings_of_zero_out_of_the_percentage_error():
    assert regression_metrics([0.0, 2.0], [1.0, 1.0])["mape"] == pytest.approx(50.0)


def test_regression_metrics_without_usage_leave_out_what_is_not_defined():
    metrics = regression_metrics(np.zeros(24), np.full(24, 0.5))
    assert metrics == pytest.approx({"rmse": 0.5, "mae": 0.5, "nmbe": 100.0})


def test_regression_metrics_of_constant_usage_have_no_r_squared():
    metrics = regression_metrics(np.full(24, 0.1), np.linspace(0, 1, 24))
    assert "r_squared" not in metrics
    assert "mape" in metrics


def test_regression_metrics_without_any_prediction_have_no_bias():
    assert "nmbe" not in regression_metrics([1.0, 2.0], [0.0, 0.0])


def test_regression_metrics_of_hardly_varying_usage_may_be_hugely_negative():
    assert regression_metrics([1.0, 1.001], [5.0, 5.0])["r_squared"] < -1e6
