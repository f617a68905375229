"""Policies inherit setting by setting, and machines may have their own."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("modelperf", "0005_profiles"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="policy",
            name="model_policies_min_effect",
        ),
        migrations.RemoveConstraint(
            model_name="policy",
            name="model_policies_clear_needs_limit",
        ),
        migrations.AlterField(
            model_name="policy",
            name="directions",
            field=models.JSONField(
                blank=True,
                help_text="Kind of each custom metric: r_squared, loss, proportion, higher, lower, target_zero",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="policy",
            name="min_effect",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="policy",
            name="model_type",
            field=models.CharField(max_length=50),
        ),
        migrations.AlterField(
            model_name="policy",
            name="primary_metric",
            field=models.CharField(blank=True, max_length=100, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="alert_on_outlier",
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="fleet_alert_machines",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="fleet_alert_share",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="label_delay_seconds",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="limit_hits",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="limit_windows",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="machine",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="policies",
                to="modelperf.machine",
            ),
        ),
        migrations.AddField(
            model_name="policy",
            name="min_evaluations",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="q",
            field=models.FloatField(blank=True, null=True, verbose_name="false discovery rate"),
        ),
        migrations.AddField(
            model_name="policy",
            name="season",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="training_source",
            field=models.JSONField(blank=True, null=True),
        ),
        # What was said by nothing is inherited from now on.
        migrations.RunSQL(
            sql="""
                UPDATE model_policies SET primary_metric = NULL WHERE primary_metric = '';
                UPDATE model_policies SET directions = NULL WHERE directions = '{}';
                UPDATE model_policies SET expected_cadence_seconds = NULL
                    WHERE expected_cadence_seconds = 0;
            """,
            reverse_sql="""
                DELETE FROM model_policies WHERE machine_id IS NOT NULL;
                UPDATE model_policies SET primary_metric = '' WHERE primary_metric IS NULL;
                UPDATE model_policies SET directions = '{}' WHERE directions IS NULL;
                UPDATE model_policies SET min_effect = 0.02 WHERE min_effect IS NULL;
            """,
        ),
        migrations.AlterModelOptions(
            name="policy",
            options={
                "ordering": [
                    "model_type",
                    models.OrderBy(models.F("machine__name"), nulls_first=True),
                ],
                "verbose_name_plural": "policies",
            },
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.UniqueConstraint(
                condition=models.Q(("machine__isnull", True)),
                fields=("model_type",),
                name="model_policies_one_a_type",
                violation_error_message="This model type has a policy: change it.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.UniqueConstraint(
                condition=models.Q(("machine__isnull", False)),
                fields=("machine", "model_type"),
                name="model_policies_one_a_series",
                violation_error_message="This machine has a policy of the type: change it.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("min_effect__isnull", True), ("min_effect__gte", 0), _connector="OR"
                ),
                name="model_policies_min_effect",
                violation_error_code="min_effect",
                violation_error_message="min_effect is not negative.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("clear_value__isnull", True),
                    ("limit_value__isnull", False),
                    ("machine__isnull", False),
                    _connector="OR",
                ),
                name="model_policies_clear_value",
                violation_error_code="clear_value",
                violation_error_message="clear_value needs a limit_value.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("limit_hits__isnull", True), ("limit_hits__range", (1, 100)), _connector="OR"
                ),
                name="model_policies_limit_hits",
                violation_error_code="limit_hits",
                violation_error_message="limit_hits lies between 1 and 100.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("limit_windows__isnull", True),
                    ("limit_windows__range", (1, 100)),
                    _connector="OR",
                ),
                name="model_policies_limit_windows",
                violation_error_code="limit_windows",
                violation_error_message="limit_windows lies between 1 and 100.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("q__isnull", True), models.Q(("q__gt", 0), ("q__lte", 0.2)), _connector="OR"
                ),
                name="model_policies_q",
                violation_error_code="q",
                violation_error_message="q is above 0 and at most 0.2.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("min_evaluations__isnull", True),
                    ("min_evaluations__range", (15, 400)),
                    _connector="OR",
                ),
                name="model_policies_min_evaluations",
                violation_error_code="min_evaluations",
                violation_error_message="min_evaluations lies between 15 and 400.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("label_delay_seconds__isnull", True),
                    ("label_delay_seconds__gte", 0),
                    _connector="OR",
                ),
                name="model_policies_label_delay_seconds",
                violation_error_code="label_delay_seconds",
                violation_error_message="label_delay_seconds is not negative.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("expected_cadence_seconds__isnull", True),
                    ("expected_cadence_seconds__gte", 1),
                    _connector="OR",
                ),
                name="model_policies_expected_cadence_seconds",
                violation_error_code="expected_cadence_seconds",
                violation_error_message="expected_cadence_seconds is positive.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("fleet_alert_machines__isnull", True),
                    ("fleet_alert_machines__gte", 2),
                    _connector="OR",
                ),
                name="model_policies_fleet_alert_machines",
                violation_error_code="fleet_alert_machines",
                violation_error_message="fleet_alert_machines is at least 2.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("fleet_alert_share__isnull", True),
                    models.Q(("fleet_alert_share__gt", 0), ("fleet_alert_share__lte", 1)),
                    _connector="OR",
                ),
                name="model_policies_fleet_alert_share",
                violation_error_code="fleet_alert_share",
                violation_error_message="fleet_alert_share is above 0 and at most 1.",
            ),
        ),
    ]
