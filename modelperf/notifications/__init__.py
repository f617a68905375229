"""By which ways people and programs are told of alerts."""

from modelperf.notifications.base import (
    DeliveryError,
    Envelope,
    Item,
    Kind,
    Says,
    SettingsError,
    find,
    kinds,
    masked,
)

__all__ = [
    "DeliveryError",
    "Envelope",
    "Item",
    "Kind",
    "Says",
    "SettingsError",
    "find",
    "kinds",
    "masked",
]
