"""The WSGI application that gunicorn serves."""

import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Only web processes have this limit: commands may take longer. It keeps a killed server's orphan
# from holding its shared memory, which would delay the restart.
_options = settings.DATABASES["default"].setdefault("OPTIONS", {})
_limit = f"-c statement_timeout={settings.WEB_STATEMENT_TIMEOUT_MS}"
_options["options"] = f"{_options.get('options', '')} {_limit}".strip()

application = get_wsgi_application()
import_module(settings.ROOT_URLCONF)  # else every worker's first request would load it

# What is loaded by now stays, so the collector need not look at it again; and a batch of thousands
# of decoded rows would otherwise set it off dozens of times, for half of the time of decoding.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)
