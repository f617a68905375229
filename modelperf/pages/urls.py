"""The web pages."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.generic import RedirectView

from modelperf.pages.model_performance import model_performance
from modelperf.pages.theme import choose_theme
from modelperf.pages.verbs import activate, retrain, roll_back

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="model-performance"), name="home"),
    path("login", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("ui/theme", choose_theme, name="theme"),
    path("ui/model-performance", model_performance, name="model-performance"),
    path("ui/model-performance/retrain", retrain, name="retrain"),
    path("ui/model-performance/activate", activate, name="activate"),
    path("ui/model-performance/roll-back", roll_back, name="roll-back"),
]
