"""Light or dark: a cookie that the server reads, so that the first paint is right."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

COOKIE, YEAR = "theme", 365 * 24 * 3600
THEMES = ("light", "dark")
AUTO = "auto"  # as the reader's system is


@require_POST
@login_required
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Remember the theme and go back to where the reader was."""
    theme = request.POST.get("theme", "")
    response = HttpResponseRedirect(_back(request))
    if theme in THEMES:
        response.set_cookie(
            COOKIE, theme, max_age=YEAR, secure=settings.HTTPS, httponly=True, samesite="Lax"
        )
        return response
    if theme != AUTO:
        return HttpResponseBadRequest(f"Send theme as one of {', '.join((*THEMES, AUTO))}.")
    response.delete_cookie(COOKIE, samesite="Lax")
    return response


def _back(request: HttpRequest) -> str:
    address = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        address, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return address if is_ours else reverse("model-performance")
