"""Django settings. Everything that differs between installations comes from `config.env`."""

import logging

from csp.constants import NONE, SELF

from config import env
from config.logging import LOGGING  # noqa: F401

BASE_DIR = env.BASE_DIR

# --- installation ---------------------------------------------------------------------------
DEMO = env.flag("MODELPERF_DEMO", default=False)  # set by `make run`: plain HTTP on this machine
DEBUG = env.flag("MODELPERF_DEBUG", default=False)
SECRET_KEY = env.secret_key()
ALLOWED_HOSTS = env.names("MODELPERF_ALLOWED_HOSTS", default=("localhost", "127.0.0.1", "[::1]"))
HTTPS = env.flag("MODELPERF_HTTPS", default=not DEMO)
TRUSTED_PROXIES = env.integer("MODELPERF_TRUSTED_PROXIES", default=0)

# --- application ----------------------------------------------------------------------------
INSTALLED_APPS = [
    "modelperf",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework_api_key",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "csp",
    "axes",
    "django_structlog",
    "pgtrigger",
    "pghistory",
    "procrastinate.contrib.django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- database -------------------------------------------------------------------------------
# Persistent connections cost 0.5 ms a request, a new one 6 ms; a lost one is replaced because
# health is checked once a request.
DATABASES = {"default": env.database()}
DATABASES["default"].update(
    CONN_MAX_AGE=env.integer("MODELPERF_CONN_MAX_AGE", default=600),
    CONN_HEALTH_CHECKS=True,
    ATOMIC_REQUESTS=False,
)
# The hot statements are bound on the server and prepared from their fifth use on.
DATABASES["default"].setdefault("OPTIONS", {})["prepare_threshold"] = 5
WEB_STATEMENT_TIMEOUT_MS = env.integer("MODELPERF_STATEMENT_TIMEOUT_MS", default=5000)
RECORD_RETRY_SECONDS = env.integer("MODELPERF_RECORD_RETRY_SECONDS", default=8)

# --- access ---------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "model-performance"
LOGOUT_REDIRECT_URL = "login"
AXES_FAILURE_LIMIT = env.integer("MODELPERF_LOGIN_FAILURES", default=5, least=1)
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"
AXES_IPWARE_PROXY_COUNT = TRUSTED_PROXIES
FAILED_KEYS_PER_MINUTE = env.integer("MODELPERF_FAILED_KEYS_PER_MINUTE", default=20, least=1)

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
CSRF_TRUSTED_ORIGINS = env.names("MODELPERF_CSRF_TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = env.names("MODELPERF_ALLOWED_ORIGINS")
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# --- requests -------------------------------------------------------------------------------
DATA_UPLOAD_MAX_MEMORY_SIZE = env.integer("MODELPERF_MAX_BODY_BYTES", default=16 * 1024 * 1024)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "modelperf.api.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["modelperf.api.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["modelperf.api.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "modelperf.api.parsers.AnyIsJSON",
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "modelperf.api.schema.CallSchema",
    "EXCEPTION_HANDLER": "modelperf.api.problems.problem_response",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "modelperf",
    "DESCRIPTION": "Tracks the performance of fleets of models in production.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["modelperf.api.authentication.HasScope"],
    "POSTPROCESSING_HOOKS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
}

# --- training data --------------------------------------------------------------------------
# What policies may name as sources of readings; nothing outside until it is allowed here.
SOURCE_DATABASE_URL = env.database_url("MODELPERF_SOURCE_DATABASE_URL")
SOURCE_DIR = env.folder("MODELPERF_SOURCE_DIR")
SOURCE_HOSTS = env.names("MODELPERF_SOURCE_HOSTS")
SOURCE_NETWORKS = env.networks("MODELPERF_SOURCE_NETWORKS")
SOURCE_TIMEOUT_SECONDS = env.integer("MODELPERF_SOURCE_TIMEOUT_SECONDS", default=60, least=1)
SOURCE_MAX_BYTES = env.integer("MODELPERF_SOURCE_MAX_BYTES", default=64 * 1024 * 1024, least=1)

# --- commands that train --------------------------------------------------------------------
# A policy names programs of this folder only; each attempt works in a folder of its own.
COMMAND_DIR = env.folder("MODELPERF_COMMAND_DIR")
TRAINING_DIR = env.folder("MODELPERF_TRAINING_DIR") or env.data_dir() / "training"

# --- requests to others ---------------------------------------------------------------------
# Webhooks of trainers: where they may go beside the public, and what they are known by there.
OUTGOING_NETWORKS = env.networks("MODELPERF_OUTGOING_NETWORKS")
OUTGOING_TIMEOUT_SECONDS = env.integer("MODELPERF_OUTGOING_TIMEOUT_SECONDS", default=10, least=1)
WEBHOOK_SECRET = env.secret("MODELPERF_WEBHOOK_SECRET")
WEBHOOK_TOKENS = env.tokens("MODELPERF_WEBHOOK_TOKENS")

# --- mail -----------------------------------------------------------------------------------
# The server that letters of notifications are handed to, and whom they come from.
EMAIL_SERVER = env.mail_server("MODELPERF_EMAIL_URL")
EMAIL_FROM = env.mailbox("MODELPERF_EMAIL_FROM")

# --- jobs -----------------------------------------------------------------------------------
# Cron expressions, of which a sixth field is seconds; an empty one switches its job off.
CHECK_SCHEDULE = env.schedule("MODELPERF_CHECK_SCHEDULE", default="*/15 * * * *")
FOLLOW_SCHEDULE = env.schedule("MODELPERF_FOLLOW_SCHEDULE", default="* * * * *")
RECOVERY_SCHEDULE = env.schedule("MODELPERF_RECOVERY_SCHEDULE", default="* * * * * */10")
NOTIFY_SCHEDULE = env.schedule("MODELPERF_NOTIFY_SCHEDULE", default="* * * * * */5")
WORKER_TRAININGS = env.integer("MODELPERF_WORKER_TRAININGS", default=1, least=1)
WORKER_JOBS = env.integer("MODELPERF_WORKER_JOBS", default=2, least=1)
WORKER_GRACE_SECONDS = env.integer("MODELPERF_WORKER_GRACE_SECONDS", default=25, least=0)

# --- notifications --------------------------------------------------------------------------
# A message on its way is another's after so long; longer than any channel takes to answer.
NOTIFICATION_LEASE_SECONDS = env.integer(
    "MODELPERF_NOTIFICATION_LEASE_SECONDS", default=60, least=1
)
NOTIFICATION_DAYS = env.integer("MODELPERF_NOTIFICATION_DAYS", default=90, least=1)

# --- training -------------------------------------------------------------------------------
# Where this is reached from outside: what trains elsewhere reports back to it.
PUBLIC_URL = env.address("MODELPERF_PUBLIC_URL")
TRAINING_LEASE_SECONDS = env.integer("MODELPERF_TRAINING_LEASE_SECONDS", default=30, least=1)
TRAINING_PATIENCE_SECONDS = env.integer("MODELPERF_TRAINING_PATIENCE_SECONDS", default=3600)
RETRAIN_DAILY_CAP = env.integer("MODELPERF_RETRAIN_DAILY_CAP", default=50, least=0)

# --- language, time, files ------------------------------------------------------------------
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env.data_dir() / "static"
WHITENOISE_USE_FINDERS = True

# --- logs -----------------------------------------------------------------------------------
# How a request ended is one event; that it began would be another of the same cost.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
# Finding a client's address in headers costs more than the event; failed keys and logins have it.
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
