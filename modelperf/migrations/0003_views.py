"""The three views that dashboards query."""

from django.db import migrations

from modelperf.sql import create_view


class Migration(migrations.Migration):
    dependencies = [("modelperf", "0002_evaluation_keys")]

    operations = [
        create_view("v_latest_model_performance", version=1),
        create_view("v_active_ab_tests", version=1),
        create_view("v_unresolved_model_alerts", version=1),
    ]
