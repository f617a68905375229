"""Typed readers of the environment that fail loudly.

Every setting of modelperf is an environment variable read here, once, at start. A value that is
missing or malformed stops the process with a sentence that says what to set.
"""

import json
import re
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final

import environ
from croniter import croniter
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

_env = environ.Env()
_ORIGIN: Final = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_MAIL_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]*[A-Za-z0-9]")


def flag(name: str, *, default: bool) -> bool:
    """Return a yes/no setting: 1, true, yes, on or 0, false, no, off."""
    raw = _env.str(name, default="").strip().lower()
    if not raw:
        return default
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(
        f"{name}={raw!r} is neither true nor false. Set it to true or false."
    )


def integer(name: str, *, default: int, least: int = 0) -> int:
    """Return a whole number of at least `least`."""
    raw = _env.str(name, default="").strip()
    if not raw:
        return default
    try:
        number = int(raw)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number.") from error
    if number < least:
        raise ImproperlyConfigured(f"{name}={number} is too small. Set it to {least} or more.")
    return number


def choice(name: str, default: str, known: tuple[str, ...]) -> str:
    """Return one of a few words."""
    value: str = _env.str(name, default="").strip() or default
    if value not in known:
        raise ImproperlyConfigured(f"{name}={value!r} is unknown. Choose from {', '.join(known)}.")
    return value


def names(name: str, *, default: tuple[str, ...] = ()) -> list[str]:
    """Return a comma-separated list without blanks."""
    return [
        part.strip()
        for part in _env.str(name, default=",".join(default)).split(",")
        if part.strip()
    ]


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Return a comma-separated list of networks, such as 10.0.0.0/8."""
    try:
        return [ip_network(part) for part in names(name)]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name}: {error}. Set it to networks such as 10.0.0.0/8."
        ) from error


def secret(name: str, *, least: int = 32) -> str:
    """Return a secret of at least `least` characters; empty where none is set."""
    value: str = _env.str(name, default="").strip()
    if value and len(value) < least:
        raise ImproperlyConfigured(f"{name} is too short. Set it to {least} characters or more.")
    return value


def tokens(name: str) -> dict[str, str]:
    """Return what the header Authorization holds by origin, such as https://api.example.org.

    The errors show no value.
    """
    raw: str = _env.str(name, default="").strip()
    wanted = f'{name} must be JSON such as {{"https://api.example.org": "Bearer ..."}}'
    try:
        found = json.loads(raw or "{}")
    except ValueError:
        raise ImproperlyConfigured(f"{wanted}.") from None
    if not isinstance(found, dict):
        raise ImproperlyConfigured(f"{wanted}.")
    for number, (origin, value) in enumerate(found.items(), start=1):
        if not _ORIGIN.fullmatch(origin):
            raise ImproperlyConfigured(f"{wanted}, and name {number} is no origin in lower case.")
        is_text = isinstance(value, str) and value.strip() and value.isascii()
        if not is_text or not value.isprintable():
            raise ImproperlyConfigured(f"{wanted}, and that of {origin} is no line of ASCII.")
    return {origin: value.strip() for origin, value in found.items()}


def folder(name: str) -> Path | None:
    """Return a folder that is there, without links; None where none is set."""
    raw = _env.str(name, default="").strip()
    if not raw:
        return None
    path = Path(raw).expanduser().resolve()
    if not path.is_dir():
        raise ImproperlyConfigured(f"{name}={raw!r} is no folder.")
    return path


def schedule(name: str, *, default: str) -> str:
    """Return a cron expression of five fields, or six with seconds; `never` is none."""
    raw: str = _env.str(name, default="").strip() or default
    if raw == "never":
        return ""
    if not croniter.is_valid(raw):
        raise ImproperlyConfigured(
            f"{name}={raw!r} is no cron expression. Set it to one such as */15 * * * *, or never."
        )
    return raw


def address(name: str) -> str:
    """Return a web address without a slash at its end; empty where none is set."""
    url: str = _env.str(name, default="").strip().rstrip("/")
    if url and not _ORIGIN.fullmatch(url):
        raise ImproperlyConfigured(f"{name} must be such as https://modelperf.example.org.")
    return url


def mail_server(name: str) -> dict[str, Any]:
    """Return how a mail server is reached; empty where none is set. The errors show no value."""
    url: str = _env.str(name, default="").strip()
    if not url:
        return {}
    wanted = f"{name} must be such as smtp+tls://user:password@mail.example.org:587"
    if url.partition("://")[0] not in {"smtp", "smtp+tls", "smtp+ssl"}:
        raise ImproperlyConfigured(f"{wanted}, or begin with smtp+ssl:// or smtp://.")
    try:
        found: dict[str, Any] = environ.Env.email_url_config(url)
    except ValueError:
        raise ImproperlyConfigured(f"{wanted}; it cannot be read.") from None
    if not found["EMAIL_HOST"]:
        raise ImproperlyConfigured(f"{wanted}; it names no host.")
    is_ssl = bool(found.get("EMAIL_USE_SSL"))
    return {
        "host": found["EMAIL_HOST"],
        "port": found["EMAIL_PORT"]
        or (465 if is_ssl else 587 if found.get("EMAIL_USE_TLS") else 25),
        "username": found["EMAIL_HOST_USER"] or "",
        "password": found["EMAIL_HOST_PASSWORD"] or "",
        "use_tls": bool(found.get("EMAIL_USE_TLS")),
        "use_ssl": is_ssl,
    }


def mailbox(name: str) -> str:
    """Return an e-mail address, with a name or without; empty where none is set."""
    raw: str = _env.str(name, default="").strip()
    address = parseaddr(raw)[1]
    is_one = bool(_MAIL_ADDRESS.fullmatch(address)) and raw.isprintable()
    if raw and not is_one:
        raise ImproperlyConfigured(
            f"{name} must be such as modelperf@example.org, or Models <modelperf@example.org>."
        )
    return raw


def database_url(name: str) -> str:
    """Return the address of a PostgreSQL server; empty where none is set."""
    url: str = _env.str(name, default="").strip()
    if url and not url.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(
            f"{name} must name a PostgreSQL server: postgres://user:password@host:5432/name."
        )
    return url


def data_dir() -> Path:
    """Return the folder of everything this installation writes: MODELPERF_DATA_DIR or var/."""
    return (
        Path(_env.str("MODELPERF_DATA_DIR", default=str(BASE_DIR / "var"))).expanduser().resolve()
    )


def secret_key() -> str:
    """Return MODELPERF_SECRET_KEY, else the key that `make run` generated into the data folder."""
    key: str = _env.str("MODELPERF_SECRET_KEY", default="")
    stored = data_dir() / "secret_key"
    if not key and stored.is_file():
        key = stored.read_text().strip()
    if len(key) < 32:
        raise ImproperlyConfigured(
            "No secret key of at least 32 characters. Set MODELPERF_SECRET_KEY, or start once with"
            f" `make run`, which generates one into {stored}. Where `make run` was given another"
            " data folder, set MODELPERF_DATA_DIR to it here as well."
        )
    return key


def database() -> dict[str, Any]:
    """Return the default database: DATABASE_URL where it is set, else the embedded server."""
    url = _env.str("DATABASE_URL", default="")
    if not url:
        return {"ENGINE": "config.embedded", "NAME": "modelperf", "DATA_DIR": data_dir()}
    parsed: dict[str, Any] = environ.Env.db_url_config(url)
    if parsed.get("ENGINE") != "django.db.backends.postgresql":
        raise ImproperlyConfigured(
            "DATABASE_URL must name a PostgreSQL server: postgres://user:password@host:5432/name."
        )
    return parsed
