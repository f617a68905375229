"""By which ways people and programs are told of alerts. Importing it makes its kinds known."""

from modelperf.notifications import alertmanager, email, slack, webhook
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
    "alertmanager",
    "email",
    "find",
    "kinds",
    "masked",
    "slack",
    "webhook",
]
