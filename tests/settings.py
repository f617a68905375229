"""The settings of tests: the project's, over a throw-away data folder unless DATABASE_URL is set.

pytest-django loads the settings before any conftest, so what they read is put in place here.
Processes that tests start inherit it through the environment.
"""

import os
import tempfile
from pathlib import Path

from tests.place import PLACE

os.environ.setdefault("MODELPERF_SECRET_KEY", "only-for-tests-0123456789-0123456789-0123456789")
os.environ.setdefault("MODELPERF_HTTPS", "false")
if "MODELPERF_TEST_DATA_DIR" not in os.environ:
    os.environ["MODELPERF_TEST_DATA_DIR"] = tempfile.mkdtemp(prefix="modelperf-test-", dir=PLACE)
    os.environ["MODELPERF_TEST_OWNER"] = str(os.getpid())
os.environ["MODELPERF_DATA_DIR"] = os.environ["MODELPERF_TEST_DATA_DIR"]

from config.settings import *  # noqa: F403

# What is slow on purpose would be slow in every test that logs in.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# WhiteNoise warns where it does not exist, and warnings are errors.
Path(os.environ["MODELPERF_DATA_DIR"], "static").mkdir(exist_ok=True)
