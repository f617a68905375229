"""Each series knows since when the fleet was last checked together with it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("modelperf", "0009_training_life"),
    ]

    operations = [
        migrations.AddField(
            model_name="series",
            name="checked_at",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text=(
                    "When the last check of the whole fleet began that did not leave the series out"
                ),
                null=True,
            ),
        ),
    ]
