"""Runs have leases and progress, versions a history, and policies say what trains and when."""

import django.db.models.deletion
import django.utils.timezone
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

import modelperf.models.keys


class Migration(migrations.Migration):
    dependencies = [
        ("modelperf", "0008_policy_history"),
    ]

    operations = [
        migrations.CreateModel(
            name="ModelActivation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("model_type", models.CharField(max_length=50)),
                ("model_version", models.PositiveIntegerField()),
                ("previous_version", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("activated", "Activated"),
                            ("promoted", "Promoted"),
                            ("rolled_back", "Rolled Back"),
                        ],
                        default="activated",
                        max_length=20,
                    ),
                ),
                ("reason", models.TextField(blank=True, default="")),
                ("activated_by", models.CharField(max_length=200)),
                ("activated_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "db_table": "model_activations",
                "ordering": ["-activated_at", "-id"],
            },
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name="policy",
            name="insert_insert",
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name="policy",
            name="update_update",
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name="policy",
            name="delete_delete",
        ),
        migrations.AddField(
            model_name="abtest",
            name="training_run",
            field=models.ForeignKey(
                blank=True,
                help_text="The run for whose version the test started by itself",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="ab_tests",
                to="modelperf.trainingrun",
            ),
        ),
        migrations.AddField(
            model_name="policy",
            name="after_training",
            field=models.CharField(
                blank=True,
                choices=[("wait", "Wait"), ("activate", "Activate"), ("test", "Test")],
                max_length=20,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="policy",
            name="retrain_automatically",
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="retrain_cooldown_seconds",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="retrain_daily_cap",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="retrain_every_seconds",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="retrain_tries",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="test_duration_hours",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="train_since_change",
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="trainer",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="training_retries",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="training_window_days",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="after_training",
            field=models.CharField(
                blank=True,
                choices=[("wait", "Wait"), ("activate", "Activate"), ("test", "Test")],
                max_length=20,
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="retrain_automatically",
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="retrain_cooldown_seconds",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="retrain_daily_cap",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="retrain_every_seconds",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="retrain_tries",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="test_duration_hours",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="train_since_change",
            field=models.BooleanField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="trainer",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="training_retries",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="training_window_days",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="alert",
            field=models.ForeignKey(
                blank=True,
                help_text="The condition that the new version is meant to end",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="training_runs",
                to="modelperf.alert",
            ),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="attempt",
            field=models.PositiveIntegerField(
                default=0, help_text="How often work on it has begun"
            ),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="heartbeat_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="lease_id",
            field=models.UUIDField(
                blank=True, help_text="Whose work on it counts; nobody else's is stored", null=True
            ),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="leased_until",
            field=models.DateTimeField(
                blank=True,
                help_text="When a run that nobody was heard of since is given up",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="progress_message",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="progress_percent",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="retry_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="trainer",
            field=models.CharField(blank=True, default="", max_length=50),
        ),
        migrations.AddField(
            model_name="trainingrun",
            name="training_log",
            field=models.TextField(blank=True, default=""),
        ),
        migrations.AlterField(
            model_name="trainingrun",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AddIndex(
            model_name="trainingrun",
            index=models.Index(
                fields=["model_type", "created_at"], name="model_training_history_asked"
            ),
        ),
        migrations.AddIndex(
            model_name="trainingrun",
            index=models.Index(
                condition=models.Q(("training_status", "running")),
                fields=["leased_until"],
                name="model_training_history_leases",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="policy",
            trigger=pgtrigger.compiler.Trigger(
                name="insert_insert",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "model_policy_events" ("after_training", "alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "retrain_automatically", "retrain_cooldown_seconds", "retrain_daily_cap", "retrain_every_seconds", "retrain_tries", "season", "test_duration_hours", "train_since_change", "trainer", "training_retries", "training_source", "training_window_days") VALUES (NEW."after_training", NEW."alert_on_outlier", NEW."clear_value", NEW."created_at", NEW."directions", NEW."expected_cadence_seconds", NEW."fleet_alert_machines", NEW."fleet_alert_share", NEW."id", NEW."label_delay_seconds", NEW."limit_hits", NEW."limit_value", NEW."limit_windows", NEW."machine_id", NEW."min_effect", NEW."min_evaluations", NEW."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'insert\', NEW."id", NEW."primary_metric", NEW."q", NEW."retrain_automatically", NEW."retrain_cooldown_seconds", NEW."retrain_daily_cap", NEW."retrain_every_seconds", NEW."retrain_tries", NEW."season", NEW."test_duration_hours", NEW."train_since_change", NEW."trainer", NEW."training_retries", NEW."training_source", NEW."training_window_days"); RETURN NULL;',
                    hash="3397c04e08547482897f373a551a43716648a1ca",
                    operation="INSERT",
                    pgid="pgtrigger_insert_insert_d64ea",
                    table="model_policies",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="policy",
            trigger=pgtrigger.compiler.Trigger(
                name="update_update",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition="WHEN (OLD.* IS DISTINCT FROM NEW.*)",
                    func='INSERT INTO "model_policy_events" ("after_training", "alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "retrain_automatically", "retrain_cooldown_seconds", "retrain_daily_cap", "retrain_every_seconds", "retrain_tries", "season", "test_duration_hours", "train_since_change", "trainer", "training_retries", "training_source", "training_window_days") VALUES (NEW."after_training", NEW."alert_on_outlier", NEW."clear_value", NEW."created_at", NEW."directions", NEW."expected_cadence_seconds", NEW."fleet_alert_machines", NEW."fleet_alert_share", NEW."id", NEW."label_delay_seconds", NEW."limit_hits", NEW."limit_value", NEW."limit_windows", NEW."machine_id", NEW."min_effect", NEW."min_evaluations", NEW."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'update\', NEW."id", NEW."primary_metric", NEW."q", NEW."retrain_automatically", NEW."retrain_cooldown_seconds", NEW."retrain_daily_cap", NEW."retrain_every_seconds", NEW."retrain_tries", NEW."season", NEW."test_duration_hours", NEW."train_since_change", NEW."trainer", NEW."training_retries", NEW."training_source", NEW."training_window_days"); RETURN NULL;',
                    hash="1438dfa30682482a541cca4b6dd02f9921fff92c",
                    operation="UPDATE",
                    pgid="pgtrigger_update_update_cf9c2",
                    table="model_policies",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="policy",
            trigger=pgtrigger.compiler.Trigger(
                name="delete_delete",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "model_policy_events" ("after_training", "alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "retrain_automatically", "retrain_cooldown_seconds", "retrain_daily_cap", "retrain_every_seconds", "retrain_tries", "season", "test_duration_hours", "train_since_change", "trainer", "training_retries", "training_source", "training_window_days") VALUES (OLD."after_training", OLD."alert_on_outlier", OLD."clear_value", OLD."created_at", OLD."directions", OLD."expected_cadence_seconds", OLD."fleet_alert_machines", OLD."fleet_alert_share", OLD."id", OLD."label_delay_seconds", OLD."limit_hits", OLD."limit_value", OLD."limit_windows", OLD."machine_id", OLD."min_effect", OLD."min_evaluations", OLD."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'delete\', OLD."id", OLD."primary_metric", OLD."q", OLD."retrain_automatically", OLD."retrain_cooldown_seconds", OLD."retrain_daily_cap", OLD."retrain_every_seconds", OLD."retrain_tries", OLD."season", OLD."test_duration_hours", OLD."train_since_change", OLD."trainer", OLD."training_retries", OLD."training_source", OLD."training_window_days"); RETURN NULL;',
                    hash="ac82e3f2785ce464e71d90a6ee9591691b6787de",
                    operation="DELETE",
                    pgid="pgtrigger_delete_delete_84973",
                    table="model_policies",
                    when="AFTER",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("training_window_days__isnull", True),
                    ("training_window_days__range", (1, 3660)),
                    _connector="OR",
                ),
                name="model_policies_training_window_days",
                violation_error_code="training_window_days",
                violation_error_message="training_window_days lies between 1 and 3660.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("training_retries__isnull", True),
                    ("training_retries__lte", 10),
                    _connector="OR",
                ),
                name="model_policies_training_retries",
                violation_error_code="training_retries",
                violation_error_message="training_retries is at most 10.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("retrain_every_seconds__isnull", True),
                    ("retrain_every_seconds__gte", 3600),
                    _connector="OR",
                ),
                name="model_policies_retrain_every_seconds",
                violation_error_code="retrain_every_seconds",
                violation_error_message="retrain_every_seconds is at least an hour.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("retrain_tries__isnull", True),
                    ("retrain_tries__range", (1, 20)),
                    _connector="OR",
                ),
                name="model_policies_retrain_tries",
                violation_error_code="retrain_tries",
                violation_error_message="retrain_tries lies between 1 and 20.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("after_training__isnull", True),
                    ("after_training__in", ["wait", "activate", "test"]),
                    _connector="OR",
                ),
                name="model_policies_after_training",
                violation_error_code="after_training",
                violation_error_message="after_training is wait, activate or test.",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("test_duration_hours__isnull", True),
                    ("test_duration_hours__range", (0.1, 8784)),
                    _connector="OR",
                ),
                name="model_policies_test_duration_hours",
                violation_error_code="test_duration_hours",
                violation_error_message="test_duration_hours lies between 0.1 and 8784.",
            ),
        ),
        # Whoever worked on a run before there were leases is gone: the next worker takes it again.
        migrations.RunSQL(
            sql="""
                UPDATE model_training_history
                SET training_status = 'pending', progress_message = 'Waits to be tried again.'
                WHERE training_status = 'running';
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name="trainingrun",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("training_status", "running"), _negated=True),
                    ("leased_until__isnull", False),
                    _connector="OR",
                ),
                name="model_training_history_running_is_leased",
            ),
        ),
        migrations.AddConstraint(
            model_name="trainingrun",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("progress_percent__isnull", True),
                    ("progress_percent__range", (0, 100)),
                    _connector="OR",
                ),
                name="model_training_history_percent",
            ),
        ),
        migrations.AddField(
            model_name="modelactivation",
            name="machine",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="activations",
                to="modelperf.machine",
            ),
        ),
        migrations.AddField(
            model_name="modelactivation",
            name="model",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="activations",
                to="modelperf.modelversion",
            ),
        ),
        migrations.AddField(
            model_name="modelactivation",
            name="previous",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="modelperf.modelversion",
            ),
        ),
        migrations.AddIndex(
            model_name="modelactivation",
            index=models.Index(
                fields=["machine", "model_type", "-activated_at"],
                name="model_activations_of_series",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelactivation",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["activated", "promoted", "rolled_back"])),
                name="model_activations_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelactivation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("previous__isnull", True), ("previous_version__isnull", True)),
                    models.Q(("previous__isnull", False), ("previous_version__isnull", False)),
                    _connector="OR",
                ),
                name="model_activations_previous_paired",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelactivation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "rolled_back"), _negated=True),
                    models.Q(("reason", ""), _negated=True),
                    _connector="OR",
                ),
                name="model_activations_rollback_says_why",
            ),
        ),
        # Machines named their trainer in their metadata.
        migrations.RunSQL(
            sql="""
                SELECT set_config('pghistory.context_metadata', '{"actor": "migration"}', true);
                WITH setups AS (
                    SELECT m.id AS machine_id, setup.key AS model_type, jsonb_strip_nulls(
                        jsonb_build_object(
                            'kind', setup.value ->> 'trainer',
                            'hyperparameters', setup.value -> 'hyperparameters')) AS trainer
                    FROM machines m, jsonb_each(
                        CASE jsonb_typeof(m.metadata -> 'training')
                            WHEN 'object' THEN m.metadata -> 'training' ELSE '{}' END) AS setup
                    WHERE setup.value ->> 'trainer' = 'energy_baseline'
                        AND setup.key ~ '^[A-Za-z0-9][A-Za-z0-9_-]*$' AND length(setup.key) <= 50
                )
                INSERT INTO model_policies (id, model_type, machine_id, trainer, created_at)
                SELECT gen_random_uuid(), model_type, machine_id, trainer, now() FROM setups
                ON CONFLICT (machine_id, model_type) WHERE machine_id IS NOT NULL
                    DO UPDATE SET trainer = excluded.trainer;
                SELECT set_config('pghistory.context_metadata', '', true);
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
