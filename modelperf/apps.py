"""The Django application."""

from django.apps import AppConfig


class ModelperfConfig(AppConfig):
    """modelperf as one application."""

    name = "modelperf"
    verbose_name = "Model performance"

    def ready(self) -> None:
        """Register the system checks."""
        from modelperf import checks  # noqa: F401, PLC0415 - registering needs loaded settings
