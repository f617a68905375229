#!/usr/bin/env python3
"""Trains a gradient-boosted forecast of hourly usage: a command for modelperf's trainer `command`.

    train.py INPUT RESULT ARTEFACTS

Needs scikit-learn. INPUT is the JSON file that modelperf writes, RESULT the one that it reads, and
what is stored in ARTEFACTS stays where the training succeeds.
"""

import csv
import hashlib
import json
import sys
from datetime import datetime
from pathlib import Path

import joblib
import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import TimeSeriesSplit
from threadpoolctl import threadpool_limits

DEFAULTS = {"max_iter": 200, "learning_rate": 0.1, "min_samples_leaf": 20, "folds": 5}


def main(given_path: str, result_path: str, artefacts: str) -> None:
    """Train on what is given and write the result."""
    given = json.loads(Path(given_path).read_text())
    settings = {**DEFAULTS, **given["hyperparameters"]}
    if unknown := sorted(settings.keys() - DEFAULTS.keys()):
        sys.exit(f"There is no hyperparameter {unknown[0]!r}. There are {', '.join(DEFAULTS)}.")
    if given["readings"] is None:
        sys.exit("The policy names no training_source to read from.")
    names, features, target = read(given["readings"])
    if len(target) < 20 * settings["folds"]:
        sys.exit(f"{len(target)} readings are too few for {settings['folds']} folds.")

    # On so few readings, threads would wait for each other longer than they compute.
    with threadpool_limits(1):
        held_out, predicted = predictions_ahead(features, target, settings)
        tell(90, f"fits all {len(target):,} readings")
        model = new_model(settings).fit(features, target)
        fitted = model.predict(features)
    path = Path(artefacts) / "model.joblib"
    joblib.dump(model, path)
    result = {
        "artefact": {
            "kind": "sklearn",
            "file": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "sklearn_version": sklearn.__version__,
        },
        "feature_names": names,
        "hyperparameters": settings,
        "training_metrics": metrics(target, fitted),
        "validation_metrics": metrics(held_out, predicted),
        "training_samples": len(target),
        "reference_profiles": [{"columns": columns(names, features)}],
    }
    Path(result_path).write_text(json.dumps(result, allow_nan=False))


def read(path: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the names of the features, their values and the target; what is empty is missing."""
    with Path(path).open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["target"]]
    names = [name for name in rows[0] if name not in {"start", "target"}] if rows else []
    weekday = [datetime.fromisoformat(row["start"]).weekday() for row in rows]
    values = [[float(row[name] or "nan") for name in names] for row in rows]
    features = np.column_stack([np.reshape(values, (len(rows), len(names))), weekday])
    return [*names, "weekday"], features, np.array([float(row["target"]) for row in rows])


def columns(names: list[str], features: np.ndarray) -> dict[str, list[float | None]]:
    """Return what later windows are compared with, feature by feature; None is missing."""
    values = np.where(np.isnan(features), None, features)
    return {name: values[:, place].tolist() for place, name in enumerate(names)}


def predictions_ahead(
    features: np.ndarray, target: np.ndarray, settings: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Return held-out readings and what was predicted of them by what lay before them.

    A forecast never sees the future, so it is not validated on readings drawn at random.
    """
    held_out, predicted = [], []
    folds = TimeSeriesSplit(n_splits=settings["folds"])
    for done, (before, after) in enumerate(folds.split(features)):
        tell(90 * done / settings["folds"], f"validates fold {done + 1} of {settings['folds']}")
        held_out.append(target[after])
        model = new_model(settings).fit(features[before], target[before])
        predicted.append(model.predict(features[after]))
    return np.concatenate(held_out), np.concatenate(predicted)


def new_model(settings: dict) -> HistGradientBoostingRegressor:
    """Return a model that is not yet trained; it takes missing values as they are."""
    own = {name: value for name, value in settings.items() if name != "folds"}
    return HistGradientBoostingRegressor(**own, random_state=0)


def metrics(measured: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the figures that modelperf knows by these names."""
    return {
        "mae": mean_absolute_error(measured, predicted),
        "rmse": root_mean_squared_error(measured, predicted),
        "r_squared": r2_score(measured, predicted),
    }


def tell(percent: float, message: str) -> None:
    """Tell how far it is; modelperf shows lines like this one as progress."""
    sys.stdout.write(f"progress: {percent:.0f} {message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
