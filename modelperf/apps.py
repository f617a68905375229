"""The Django application."""

from django.apps import AppConfig


class ModelperfConfig(AppConfig):
    """modelperf as one application."""

    name = "modelperf"
    verbose_name = "Model performance"

    def ready(self) -> None:
        """Register the system checks, and the demo's source of readings."""
        # Registering needs loaded settings.
        from modelperf import checks  # noqa: F401, PLC0415
        from modelperf.demo import readings  # noqa: F401, PLC0415
