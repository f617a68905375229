"""What the form of a policy says of its settings for training and retraining."""

from __future__ import annotations

from typing import Final

from modelperf.services.policies import PolicyValues

_DEFAULTS: Final = PolicyValues()
_DAY: Final = 86_400

RETRAINING_HELP: Final = {
    "training_source": 'Where a training finds its readings: {"kind": "query", "sql":'
    ' "SELECT .."}, {"kind": "files", "pattern": ".."} or {"kind": "url", "url": ".."},'
    " and the names of the columns time, value and temperature. No passwords here.",
    "trainer": 'What trains: {"kind": "energy_baseline"}, {"kind": "command", ..} with a program'
    ' of your own, {"kind": "webhook", ..} that asks another system, or {"kind": "external"} where'
    " others take the pending runs and report. Empty: energy_baseline where there is a training"
    " source, else external. No passwords here.",
    "training_window_days": "A training gets the data of so many days, from 1 to 3660. Default"
    f" {_DEFAULTS.training_window_days}: every season once.",
    "train_since_change": "Whether a training that a change has triggered gets only the data since"
    " that change. Default no.",
    "training_retries": "So often a run is tried again after its worker died, at most 10. Default"
    f" {_DEFAULTS.training_retries}.",
    "after_training": "What becomes of the new version: it waits for a person, serves at once, or"
    f" is tested against the active one. Default {_DEFAULTS.after_training}.",
    "test_duration_hours": "So long such a test goes on at most, from 0.1 to 8784 hours. Default"
    f" {_DEFAULTS.test_duration_hours:g}.",
    "retrain_automatically": "Whether an alert of a machine's own triggers a training by itself;"
    " a change of the fleet never does. Default no.",
    "retrain_every_seconds": "Train anew so many seconds after the last time, whether or not"
    " anything changed; an hour at least. Empty: never.",
    "retrain_cooldown_seconds": "So many seconds at least lie between automatic trainings of a"
    " series, twice as many after each that did not help. Default"
    f" {_DEFAULTS.retrain_cooldown_seconds}, {_DEFAULTS.retrain_cooldown_seconds // _DAY} day.",
    "retrain_tries": "After so many automatic trainings that did not help, from 1 to 20, no more is"
    f" tried and an alert says so. Default {_DEFAULTS.retrain_tries}.",
    "retrain_daily_cap": "At most so many automatic trainings of the type within a day. Default"
    f" {_DEFAULTS.retrain_daily_cap}.",
}
