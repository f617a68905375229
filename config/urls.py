"""Where everything is: the API, the pages, the admin and the probes."""

from django.contrib import admin
from django.urls import include, path

from modelperf.api.health import livez, readyz

urlpatterns = [
    path("livez", livez),
    path("readyz", readyz),
    path("api/", include("modelperf.api.urls")),
    path("admin/", admin.site.urls),
    path("", include("modelperf.pages.urls")),
]

handler400 = "modelperf.api.problems.bad_request"
handler403 = "modelperf.api.problems.permission_denied"
handler404 = "modelperf.api.problems.not_found"
handler500 = "modelperf.api.problems.server_error"
