"""The WSGI application that gunicorn serves."""

import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def _refuse_unsafe_settings() -> None:
    """Stop where an installation would be unsafe: only commands run system checks themselves."""
    found = run_checks(tags=[Tags.security])
    errors = [one for one in found if one.is_serious() and not one.is_silenced()]
    if errors:
        raise ImproperlyConfigured(" ".join(f"{one.msg} ({one.id})" for one in errors))


# Only web processes have this limit: commands may take longer. It keeps a killed server's orphan
# from holding its shared memory, which would delay the restart.
_options = settings.DATABASES["default"].setdefault("OPTIONS", {})
_limit = f"-c statement_timeout={settings.WEB_STATEMENT_TIMEOUT_MS}"
_options["options"] = f"{_options.get('options', '')} {_limit}".strip()

application = get_wsgi_application()
_refuse_unsafe_settings()
import_module(settings.ROOT_URLCONF)  # else every worker's first request would load it

# What is loaded by now stays, so the collector need not look at it again; and a batch of thousands
# of decoded rows would otherwise set it off dozens of times, for half of the time of decoding.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)
