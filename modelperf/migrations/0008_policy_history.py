"""Every change of a policy is kept, and by whom; the demo's data is a setting of policies."""

import django.db.models.deletion
import pghistory.utils
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

import modelperf.models.keys


class Migration(migrations.Migration):
    dependencies = [
        ("modelperf", "0007_ab_observations"),
    ]

    operations = [
        migrations.CreateModel(
            name="PolicyEvent",
            fields=[
                ("pgh_id", models.AutoField(primary_key=True, serialize=False)),
                ("pgh_created_at", models.DateTimeField(auto_now_add=True)),
                ("pgh_label", models.TextField(help_text="The event label.")),
                ("pgh_context", pghistory.utils.JSONField(null=True)),
                ("pgh_context_id", models.UUIDField(null=True)),
                ("id", models.UUIDField(default=modelperf.models.keys.uuid7, serialize=False)),
                ("model_type", models.CharField(max_length=50)),
                ("primary_metric", models.CharField(blank=True, max_length=100, null=True)),
                (
                    "directions",
                    models.JSONField(
                        blank=True,
                        help_text="Kind of each custom metric: r_squared, loss, proportion, higher, lower, target_zero",
                        null=True,
                    ),
                ),
                ("min_effect", models.FloatField(blank=True, null=True)),
                ("limit_value", models.FloatField(blank=True, null=True)),
                ("clear_value", models.FloatField(blank=True, null=True)),
                ("limit_hits", models.PositiveIntegerField(blank=True, null=True)),
                ("limit_windows", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "q",
                    models.FloatField(blank=True, null=True, verbose_name="false discovery rate"),
                ),
                ("min_evaluations", models.PositiveIntegerField(blank=True, null=True)),
                ("label_delay_seconds", models.PositiveIntegerField(blank=True, null=True)),
                ("expected_cadence_seconds", models.PositiveIntegerField(blank=True, null=True)),
                ("alert_on_outlier", models.BooleanField(blank=True, null=True)),
                ("season", models.JSONField(blank=True, null=True)),
                ("fleet_alert_machines", models.PositiveIntegerField(blank=True, null=True)),
                ("fleet_alert_share", models.FloatField(blank=True, null=True)),
                ("training_source", models.JSONField(blank=True, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "db_table": "model_policy_events",
                "verbose_name": "policy change",
                "ordering": ["-pgh_created_at", "-pgh_id"],
            },
        ),
        migrations.AddField(
            model_name="policyevent",
            name="machine",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                related_query_name="+",
                to="modelperf.machine",
            ),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="pgh_obj",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                related_query_name="+",
                to="modelperf.policy",
            ),
        ),
        migrations.AddIndex(
            model_name="policyevent",
            index=models.Index(
                fields=["model_type", "-pgh_id"], name="model_policy_events_of_type"
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="policy",
            trigger=pgtrigger.compiler.Trigger(
                name="insert_insert",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "model_policy_events" ("alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "season", "training_source") VALUES (NEW."alert_on_outlier", NEW."clear_value", NEW."created_at", NEW."directions", NEW."expected_cadence_seconds", NEW."fleet_alert_machines", NEW."fleet_alert_share", NEW."id", NEW."label_delay_seconds", NEW."limit_hits", NEW."limit_value", NEW."limit_windows", NEW."machine_id", NEW."min_effect", NEW."min_evaluations", NEW."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'insert\', NEW."id", NEW."primary_metric", NEW."q", NEW."season", NEW."training_source"); RETURN NULL;',
                    hash="5b540626c84c9c35c81a29cdccac14d0b56a2ea0",
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
                    func='INSERT INTO "model_policy_events" ("alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "season", "training_source") VALUES (NEW."alert_on_outlier", NEW."clear_value", NEW."created_at", NEW."directions", NEW."expected_cadence_seconds", NEW."fleet_alert_machines", NEW."fleet_alert_share", NEW."id", NEW."label_delay_seconds", NEW."limit_hits", NEW."limit_value", NEW."limit_windows", NEW."machine_id", NEW."min_effect", NEW."min_evaluations", NEW."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'update\', NEW."id", NEW."primary_metric", NEW."q", NEW."season", NEW."training_source"); RETURN NULL;',
                    hash="0c2a031f4f1d404530183cb11b72220816c81876",
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
                    func='INSERT INTO "model_policy_events" ("alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "season", "training_source") VALUES (OLD."alert_on_outlier", OLD."clear_value", OLD."created_at", OLD."directions", OLD."expected_cadence_seconds", OLD."fleet_alert_machines", OLD."fleet_alert_share", OLD."id", OLD."label_delay_seconds", OLD."limit_hits", OLD."limit_value", OLD."limit_windows", OLD."machine_id", OLD."min_effect", OLD."min_evaluations", OLD."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'delete\', OLD."id", OLD."primary_metric", OLD."q", OLD."season", OLD."training_source"); RETURN NULL;',
                    hash="ad8c1543fb8cc8643704dce7d07e1b491ed2ff43",
                    operation="DELETE",
                    pgid="pgtrigger_delete_delete_84973",
                    table="model_policies",
                    when="AFTER",
                ),
            ),
        ),
        # History begins with what there is.
        migrations.RunSQL(
            sql="""
                INSERT INTO model_policy_events (
                    pgh_created_at, pgh_label, pgh_context, pgh_obj_id,
                    alert_on_outlier, clear_value, created_at, directions,
                    expected_cadence_seconds, fleet_alert_machines, fleet_alert_share, id,
                    label_delay_seconds, limit_hits, limit_value, limit_windows,
                    machine_id, min_effect, min_evaluations, model_type, primary_metric,
                    q, season, training_source
                )
                SELECT now(), 'insert', '{"actor": "migration"}', id,
                    alert_on_outlier, clear_value, created_at, directions,
                    expected_cadence_seconds, fleet_alert_machines, fleet_alert_share, id,
                    label_delay_seconds, limit_hits, limit_value, limit_windows,
                    machine_id, min_effect, min_evaluations, model_type, primary_metric,
                    q, season, training_source
                FROM model_policies;
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
        # Machines named the source of their readings in their metadata; only the demo's existed.
        migrations.RunSQL(
            sql="""
                SELECT set_config('pghistory.context_metadata', '{"actor": "migration"}', true);
                INSERT INTO model_policies (id, model_type, machine_id, training_source, created_at)
                SELECT gen_random_uuid(), setup.key, m.id,
                    jsonb_build_object('kind', 'demo', 'meter', substr(setup.value ->> 'source', 6)),
                    now()
                FROM machines m, jsonb_each(
                    CASE jsonb_typeof(m.metadata -> 'training')
                        WHEN 'object' THEN m.metadata -> 'training' ELSE '{}' END) AS setup
                WHERE setup.value ->> 'source' LIKE 'demo:%'
                    AND setup.key ~ '^[A-Za-z0-9][A-Za-z0-9_-]*$' AND length(setup.key) <= 50
                ON CONFLICT DO NOTHING;
                SELECT set_config('pghistory.context_metadata', '', true);
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
