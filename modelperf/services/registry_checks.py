"""What is wrong with a machine or a model version, told before PostgreSQL would."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils import timezone

from modelperf.models import Machine, ModelVersion
from modelperf.models.registry import MODEL_TYPE_LENGTH, MODEL_TYPE_PATTERN
from modelperf.services.errors import FieldError, InvalidError

LARGEST_VERSION = 2**31 - 1
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def check_machine(machine: Machine) -> None:
    """Refuse a machine that cannot be stored."""
    check_text(name=machine.name, type=machine.type, location=machine.location)
    _check_object("metadata", machine.metadata)
    try:
        machine.clean_fields(exclude=["created_at", "metadata"])
    except ValidationError as error:
        raise _invalid(error) from error
    if not machine.name.strip():
        raise InvalidError.field("name", "Give the machine a name.")
    if machine.data_interval_seconds == 0:
        raise InvalidError.field("data_interval_seconds", "data_interval_seconds is above zero.")


def check_model(model: ModelVersion, number: int | None) -> None:
    """Refuse a model version that cannot be stored under this number."""
    check_model_type(model.model_type)
    if number is not None and not 1 <= number <= LARGEST_VERSION:
        raise InvalidError.field(
            "model_version", f"model_version is a whole number from 1 to {LARGEST_VERSION}."
        )
    if model.trained_at is not None and timezone.is_naive(model.trained_at):
        raise InvalidError.field("trained_at", "trained_at needs an offset, such as Z.")
    if model.artefact is not None:
        _check_object("artefact", model.artefact)
    _check_object("hyperparameters", model.hyperparameters)
    _check_object("metadata", model.metadata)
    check_text(feature_names="".join(model.feature_names))


def check_model_type(model_type: str) -> None:
    """Refuse what is not a slug of at most 50 characters."""
    if len(model_type) > MODEL_TYPE_LENGTH or not re.fullmatch(MODEL_TYPE_PATTERN, model_type):
        raise InvalidError.field(
            "model_type",
            f"model_type is a slug of at most {MODEL_TYPE_LENGTH} characters, such as baseline.",
        )


def check_text(**texts: str) -> None:
    """Refuse text that PostgreSQL cannot hold: NUL characters and halves of surrogate pairs."""
    for name, text in texts.items():
        if _UNSTORABLE.search(text):
            raise InvalidError.field(name, f"{name} holds a character that cannot be stored.")


def _check_object(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise InvalidError.field(name, f"{name} is an object.")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidError.field(name, f"{name} is not JSON: {error}.") from error
    for text in _texts(value):
        check_text(**{name: text})


def _texts(value: Any) -> Iterator[str]:
    """Yield every key and every string within what is JSON, however deep."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            left += one


def _invalid(error: ValidationError) -> InvalidError:
    errors = [
        FieldError(("body", name), message)
        for name, messages in error.message_dict.items()
        for message in messages
    ]
    return InvalidError(f"{errors[0].loc[1]}: {errors[0].msg}", errors)
