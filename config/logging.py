"""Logs are events with fields: one line each, with the request's id, never with a secret.

On a terminal they are coloured text, elsewhere JSON. Set MODELPERF_LOG_FORMAT to `text` or `json`
to choose, and MODELPERF_LOG_LEVEL (default INFO) for how much is told.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from config import env

HIDDEN = "[hidden]"
SECRET_FIELDS = re.compile(
    r"authorization|cookie|password|passwd|secret|token|api_?key|(^|_)key$|csrf|session", re.I
)
SECRET_TEXTS = (
    re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}(?![A-Za-z0-9])"),  # an API key
    re.compile(r"(?i)(?<=api-key )\S+|(?<=bearer )\S+"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),  # user and password in an address
    re.compile(r"(?i)(?<=[?&])(?:key|token|password|secret|api_key)=[^&\s]*"),
)
# A condition's key names what an alert is about; it opens nothing.
HARMLESS = {"condition_key"}


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what could open something, by the name of its field or by its looks."""
    return {name: _hidden(name, value) for name, value in event.items()}


def _hidden(name: str, value: Any) -> Any:
    if name not in HARMLESS and SECRET_FIELDS.search(name):
        return HIDDEN
    if isinstance(value, str):
        return _without_secrets(value)
    if isinstance(value, dict):
        return {key: _hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden("", item) for item in value]
    return value


def _without_secrets(text: str) -> str:
    for pattern in SECRET_TEXTS:
        text = pattern.sub(HIDDEN, text)
    return text


LEVEL = env.choice("MODELPERF_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
FORMAT = env.choice(
    "MODELPERF_LOG_FORMAT", "text" if sys.stderr.isatty() else "json", ("text", "json")
)

SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def _endings() -> list[Processor]:
    """Return the last steps. Text draws tracebacks itself; JSON needs them as a string first."""
    head: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if FORMAT == "text":
        plain = structlog.dev.plain_traceback
        return [*head, hide_secrets, structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    as_text = structlog.processors.format_exc_info
    return [*head, as_text, hide_secrets, structlog.processors.JSONRenderer(sort_keys=True)]


structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *SHARED,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "events": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": _endings(),
            "foreign_pre_chain": SHARED,
        },
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "events"},
    },
    "root": {"handlers": ["stderr"], "level": LEVEL},
    "loggers": {
        # django-structlog tells how each request ended, with its traceback: once is enough.
        "django.request": {"level": "CRITICAL"},
        "django.server": {"handlers": [], "propagate": False},
        "django_structlog": {"level": LEVEL},
        "axes": {"level": "WARNING"},
        # Every job would be four lines; what jobs do is told by services.
        "procrastinate": {"level": "WARNING"},
        "modelperf": {"level": LEVEL},
    },
}
