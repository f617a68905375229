"""The first unresolved alerts come from an index, however many alerts there are."""

from django.db import migrations, models

from modelperf.sql import replace_view

_without_view, _with_view = replace_view("v_unresolved_model_alerts", version=3)


class Migration(migrations.Migration):
    dependencies = [("modelperf", "0012_groups")]

    operations = [
        _without_view,
        # An index of the state alone looks as if it had the order of the table, and the server
        # would rather read all that is unresolved by it and sort.
        migrations.RemoveIndex(model_name="alert", name="model_alerts_of_state"),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                models.F("state"),
                models.Case(
                    models.When(severity="critical", then=models.Value(0)),
                    models.When(severity="warning", then=models.Value(1)),
                    default=models.Value(2),
                    output_field=models.IntegerField(),
                ),
                models.F("alert_timestamp").desc(),
                models.F("id").desc(),
                name="model_alerts_of_state",
                condition=models.Q(("is_resolved", False)),
            ),
        ),
        _with_view,
    ]
