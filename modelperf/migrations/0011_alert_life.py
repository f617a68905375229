"""Alerts have a life with a history; there are silences, and people are told."""

import django.db.models.deletion
import django.utils.timezone
import pghistory.utils
import pgtrigger.compiler
import pgtrigger.migrations
from django.conf import settings
from django.db import migrations, models

import modelperf.models.keys
from modelperf.sql import replace_view

# Who acknowledged an alert, and who opened it again, stood in its metadata.
_OUT_OF_METADATA = """
    UPDATE model_alerts SET last_seen_at = alert_timestamp,
        acknowledged_by = CASE WHEN metadata ? 'acknowledged_at'
            THEN metadata ->> 'acknowledged_by' ELSE '' END,
        acknowledged_at = (metadata ->> 'acknowledged_at')::timestamptz,
        reopened_by = CASE WHEN metadata ? 'reopened_at'
            THEN metadata ->> 'reopened_by' ELSE '' END,
        reopened_at = (metadata ->> 'reopened_at')::timestamptz,
        metadata = metadata - '{acknowledged_by,acknowledged_at,reopened_by,reopened_at}'::text[]
"""
_INTO_METADATA = """
    UPDATE model_alerts SET metadata = metadata
        || CASE WHEN acknowledged_at IS NULL THEN '{}' ELSE jsonb_build_object(
            'acknowledged_by', acknowledged_by, 'acknowledged_at', acknowledged_at) END
        || CASE WHEN reopened_at IS NULL THEN '{}' ELSE jsonb_build_object(
            'reopened_by', reopened_by, 'reopened_at', reopened_at) END
"""
_without_view, _with_view = replace_view("v_unresolved_model_alerts", version=2)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("modelperf", "0010_series_checked_at"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        _without_view,
        migrations.CreateModel(
            name="AlertComment",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("text", models.TextField()),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "db_table": "model_alert_comments",
                "ordering": ["created_at", "id"],
            },
        ),
        migrations.CreateModel(
            name="AlertEvent",
            fields=[
                ("pgh_id", models.AutoField(primary_key=True, serialize=False)),
                ("pgh_created_at", models.DateTimeField(auto_now_add=True)),
                ("pgh_label", models.TextField(help_text="The event label.")),
                ("pgh_context", pghistory.utils.JSONField(null=True)),
                ("pgh_context_id", models.UUIDField(null=True)),
                ("id", models.UUIDField(default=modelperf.models.keys.uuid7, serialize=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("acknowledged", "Acknowledged"),
                            ("snoozed", "Snoozed"),
                            ("resolved", "Resolved"),
                        ],
                        default="open",
                        max_length=20,
                    ),
                ),
                (
                    "severity",
                    models.CharField(
                        choices=[
                            ("normal", "Normal"),
                            ("warning", "Warning"),
                            ("critical", "Critical"),
                        ],
                        max_length=10,
                    ),
                ),
                ("occurrences", models.PositiveIntegerField(default=1)),
                ("revision", models.PositiveIntegerField(default=1)),
                ("model_version", models.PositiveIntegerField(blank=True, null=True)),
                ("alert_timestamp", models.DateTimeField()),
                ("alert_message", models.TextField()),
                ("current_metric_value", models.FloatField(blank=True, null=True)),
                ("peak_metric_value", models.FloatField(blank=True, null=True)),
                ("acknowledged_by", models.CharField(blank=True, default="", max_length=200)),
                ("snoozed_until", models.DateTimeField(blank=True, null=True)),
                ("snoozed_until_count", models.PositiveIntegerField(blank=True, null=True)),
                ("snoozed_until_worse", models.BooleanField(default=False)),
                ("is_resolved", models.BooleanField(default=False)),
                ("resolved_at", models.DateTimeField(blank=True, null=True)),
                ("resolved_by", models.CharField(blank=True, max_length=200, null=True)),
                ("resolution_action", models.CharField(blank=True, default="", max_length=50)),
                ("resolution_notes", models.TextField(blank=True, default="")),
            ],
            options={
                "db_table": "model_alert_events",
                "ordering": ["pgh_created_at", "pgh_id"],
            },
        ),
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100, unique=True)),
                ("kind", models.CharField(max_length=30)),
                ("settings", models.JSONField(blank=True, default=dict)),
                ("is_enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "db_table": "notification_channels",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("route_name", models.CharField(max_length=100)),
                (
                    "decision",
                    models.CharField(
                        choices=[
                            ("told", "Told"),
                            ("not_matched", "Not Matched"),
                            ("silenced", "Silenced"),
                            ("snoozed", "Snoozed"),
                            ("not_wanted", "Not Wanted"),
                            ("never_told", "Never Told"),
                            ("over_before", "Over Before"),
                        ],
                        max_length=20,
                    ),
                ),
                ("reason", models.TextField(blank=True, default="")),
                ("decided_at", models.DateTimeField()),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "db_table": "notice_deliveries",
                "ordering": ["decided_at", "id"],
            },
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("sent", "Sent"),
                            ("failed", "Failed"),
                            ("dropped", "Dropped"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                (
                    "is_held",
                    models.BooleanField(default=False, verbose_name="waits for quiet hours"),
                ),
                ("due_at", models.DateTimeField()),
                ("sealed_at", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("attempts_log", models.JSONField(blank=True, default=list)),
                ("lease_id", models.UUIDField(blank=True, null=True)),
                ("leased_until", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "db_table": "notification_messages",
                "ordering": ["created_at", "id"],
            },
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("opened", "Opened"),
                            ("reopened", "Reopened"),
                            ("severity_rose", "Rose"),
                            ("snooze_over", "Woke"),
                            ("silence_over", "Unsilenced"),
                            ("resolved", "Resolved"),
                        ],
                        max_length=20,
                    ),
                ),
                ("says", models.JSONField(default=dict)),
                ("occurred_at", models.DateTimeField()),
                ("routed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "notices",
                "ordering": ["occurred_at", "id"],
            },
        ),
        migrations.CreateModel(
            name="Route",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100, unique=True)),
                ("matchers", models.JSONField(blank=True, default=dict)),
                ("is_enabled", models.BooleanField(default=True)),
                ("tells_resolved", models.BooleanField(default=True, verbose_name="tells of ends")),
                ("group_seconds", models.PositiveIntegerField(default=30)),
                ("most_per_hour", models.PositiveIntegerField(default=60)),
                ("quiet_from", models.TimeField(blank=True, null=True)),
                ("quiet_until", models.TimeField(blank=True, null=True)),
                ("quiet_timezone", models.CharField(default="UTC", max_length=64)),
                (
                    "quiet_severity",
                    models.CharField(
                        choices=[
                            ("normal", "Normal"),
                            ("warning", "Warning"),
                            ("critical", "Critical"),
                        ],
                        default="warning",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "db_table": "notification_routes",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="RouteEvent",
            fields=[
                ("pgh_id", models.AutoField(primary_key=True, serialize=False)),
                ("pgh_created_at", models.DateTimeField(auto_now_add=True)),
                ("pgh_label", models.TextField(help_text="The event label.")),
                ("pgh_context", pghistory.utils.JSONField(null=True)),
                ("pgh_context_id", models.UUIDField(null=True)),
                ("id", models.UUIDField(default=modelperf.models.keys.uuid7, serialize=False)),
                ("name", models.CharField(max_length=100)),
                ("matchers", models.JSONField(blank=True, default=dict)),
                ("is_enabled", models.BooleanField(default=True)),
                ("tells_resolved", models.BooleanField(default=True, verbose_name="tells of ends")),
                ("group_seconds", models.PositiveIntegerField(default=30)),
                ("most_per_hour", models.PositiveIntegerField(default=60)),
                ("quiet_from", models.TimeField(blank=True, null=True)),
                ("quiet_until", models.TimeField(blank=True, null=True)),
                ("quiet_timezone", models.CharField(default="UTC", max_length=64)),
                (
                    "quiet_severity",
                    models.CharField(
                        choices=[
                            ("normal", "Normal"),
                            ("warning", "Warning"),
                            ("critical", "Critical"),
                        ],
                        default="warning",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "route change",
                "db_table": "notification_route_events",
                "ordering": ["-pgh_created_at", "-pgh_id"],
            },
        ),
        migrations.CreateModel(
            name="Silence",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("matchers", models.JSONField(default=dict)),
                ("reason", models.TextField()),
                ("owner", models.CharField(max_length=200)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "db_table": "silences",
                "ordering": ["-ends_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="SilenceEvent",
            fields=[
                ("pgh_id", models.AutoField(primary_key=True, serialize=False)),
                ("pgh_created_at", models.DateTimeField(auto_now_add=True)),
                ("pgh_label", models.TextField(help_text="The event label.")),
                ("pgh_context", pghistory.utils.JSONField(null=True)),
                ("pgh_context_id", models.UUIDField(null=True)),
                ("id", models.UUIDField(default=modelperf.models.keys.uuid7, serialize=False)),
                ("matchers", models.JSONField(default=dict)),
                ("reason", models.TextField()),
                ("owner", models.CharField(max_length=200)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "silence change",
                "db_table": "silence_events",
                "ordering": ["-pgh_created_at", "-pgh_id"],
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
        migrations.RemoveIndex(
            model_name="alert",
            name="model_alerts_triage",
        ),
        migrations.AddField(
            model_name="alert",
            name="acknowledged_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="alert",
            name="acknowledged_by",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
        migrations.AddField(
            model_name="alert",
            name="assignee",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="alerts",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="last_seen_at",
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AddField(
            model_name="alert",
            name="peak_metric_value",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="alert",
            name="reopened_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="alert",
            name="reopened_by",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
        migrations.AddField(
            model_name="alert",
            name="revision",
            field=models.PositiveIntegerField(default=1),
        ),
        migrations.AddField(
            model_name="alert",
            name="seen_through",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="alert",
            name="snoozed_peak",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="alert",
            name="snoozed_until",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="alert",
            name="snoozed_until_count",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="alert",
            name="snoozed_until_worse",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="alert",
            name="team",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="alerts",
                to="auth.group",
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="told_through",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policy",
            name="limit_clear_windows",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="policyevent",
            name="limit_clear_windows",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                models.Case(
                    models.When(severity="critical", then=models.Value(0)),
                    models.When(severity="warning", then=models.Value(1)),
                    default=models.Value(2),
                    output_field=models.IntegerField(),
                ),
                models.OrderBy(models.F("alert_timestamp"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("is_resolved", False)),
                name="model_alerts_worst_first",
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                models.OrderBy(models.F("resolved_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("is_resolved", True)),
                name="model_alerts_resolved",
            ),
        ),
        migrations.AddIndex(
            model_name="alert",
            index=models.Index(
                condition=models.Q(("is_resolved", False)),
                fields=["state"],
                name="model_alerts_of_state",
            ),
        ),
        migrations.RunSQL(sql=_OUT_OF_METADATA, reverse_sql=_INTO_METADATA),
        pgtrigger.migrations.AddTrigger(
            model_name="alert",
            trigger=pgtrigger.compiler.Trigger(
                name="model_alerts_revise",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition='WHEN (OLD."acknowledged_by" IS DISTINCT FROM (NEW."acknowledged_by") OR OLD."alert_timestamp" IS DISTINCT FROM (NEW."alert_timestamp") OR OLD."assignee_id" IS DISTINCT FROM (NEW."assignee_id") OR OLD."model_version" IS DISTINCT FROM (NEW."model_version") OR OLD."resolution_action" IS DISTINCT FROM (NEW."resolution_action") OR OLD."resolution_notes" IS DISTINCT FROM (NEW."resolution_notes") OR OLD."severity" IS DISTINCT FROM (NEW."severity") OR OLD."snoozed_until" IS DISTINCT FROM (NEW."snoozed_until") OR OLD."snoozed_until_count" IS DISTINCT FROM (NEW."snoozed_until_count") OR OLD."snoozed_until_worse" IS DISTINCT FROM (NEW."snoozed_until_worse") OR OLD."state" IS DISTINCT FROM (NEW."state") OR OLD."team_id" IS DISTINCT FROM (NEW."team_id"))',
                    func="NEW.revision = OLD.revision + 1; RETURN NEW;",
                    hash="97a67f8f1884065bc7e6f36abc65a355a2682784",
                    operation="UPDATE",
                    pgid="pgtrigger_model_alerts_revise_6db59",
                    table="model_alerts",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="alert",
            trigger=pgtrigger.compiler.Trigger(
                name="insert_insert",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "model_alert_events" ("acknowledged_by", "alert_message", "alert_timestamp", "assignee_id", "current_metric_value", "id", "is_resolved", "model_version", "occurrences", "peak_metric_value", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "resolution_action", "resolution_notes", "resolved_at", "resolved_by", "revision", "severity", "snoozed_until", "snoozed_until_count", "snoozed_until_worse", "state", "team_id") VALUES (NEW."acknowledged_by", NEW."alert_message", NEW."alert_timestamp", NEW."assignee_id", NEW."current_metric_value", NEW."id", NEW."is_resolved", NEW."model_version", NEW."occurrences", NEW."peak_metric_value", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'insert\', NEW."id", NEW."resolution_action", NEW."resolution_notes", NEW."resolved_at", NEW."resolved_by", NEW."revision", NEW."severity", NEW."snoozed_until", NEW."snoozed_until_count", NEW."snoozed_until_worse", NEW."state", NEW."team_id"); RETURN NULL;',
                    hash="1119213303230a1747d1dd75a7814efcf030e2c8",
                    operation="INSERT",
                    pgid="pgtrigger_insert_insert_4a702",
                    table="model_alerts",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="alert",
            trigger=pgtrigger.compiler.Trigger(
                name="update_update",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition='WHEN (OLD."revision" IS DISTINCT FROM (NEW."revision"))',
                    func='INSERT INTO "model_alert_events" ("acknowledged_by", "alert_message", "alert_timestamp", "assignee_id", "current_metric_value", "id", "is_resolved", "model_version", "occurrences", "peak_metric_value", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "resolution_action", "resolution_notes", "resolved_at", "resolved_by", "revision", "severity", "snoozed_until", "snoozed_until_count", "snoozed_until_worse", "state", "team_id") VALUES (NEW."acknowledged_by", NEW."alert_message", NEW."alert_timestamp", NEW."assignee_id", NEW."current_metric_value", NEW."id", NEW."is_resolved", NEW."model_version", NEW."occurrences", NEW."peak_metric_value", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'update\', NEW."id", NEW."resolution_action", NEW."resolution_notes", NEW."resolved_at", NEW."resolved_by", NEW."revision", NEW."severity", NEW."snoozed_until", NEW."snoozed_until_count", NEW."snoozed_until_worse", NEW."state", NEW."team_id"); RETURN NULL;',
                    hash="4a94bc989f4369ba2960c0299de554a4c6dc601c",
                    operation="UPDATE",
                    pgid="pgtrigger_update_update_98e2e",
                    table="model_alerts",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="policy",
            trigger=pgtrigger.compiler.Trigger(
                name="insert_insert",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "model_policy_events" ("after_training", "alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_clear_windows", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "retrain_automatically", "retrain_cooldown_seconds", "retrain_daily_cap", "retrain_every_seconds", "retrain_tries", "season", "test_duration_hours", "train_since_change", "trainer", "training_retries", "training_source", "training_window_days") VALUES (NEW."after_training", NEW."alert_on_outlier", NEW."clear_value", NEW."created_at", NEW."directions", NEW."expected_cadence_seconds", NEW."fleet_alert_machines", NEW."fleet_alert_share", NEW."id", NEW."label_delay_seconds", NEW."limit_clear_windows", NEW."limit_hits", NEW."limit_value", NEW."limit_windows", NEW."machine_id", NEW."min_effect", NEW."min_evaluations", NEW."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'insert\', NEW."id", NEW."primary_metric", NEW."q", NEW."retrain_automatically", NEW."retrain_cooldown_seconds", NEW."retrain_daily_cap", NEW."retrain_every_seconds", NEW."retrain_tries", NEW."season", NEW."test_duration_hours", NEW."train_since_change", NEW."trainer", NEW."training_retries", NEW."training_source", NEW."training_window_days"); RETURN NULL;',
                    hash="42a5d590b772687be27fad313291add89e74af2d",
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
                    func='INSERT INTO "model_policy_events" ("after_training", "alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_clear_windows", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "retrain_automatically", "retrain_cooldown_seconds", "retrain_daily_cap", "retrain_every_seconds", "retrain_tries", "season", "test_duration_hours", "train_since_change", "trainer", "training_retries", "training_source", "training_window_days") VALUES (NEW."after_training", NEW."alert_on_outlier", NEW."clear_value", NEW."created_at", NEW."directions", NEW."expected_cadence_seconds", NEW."fleet_alert_machines", NEW."fleet_alert_share", NEW."id", NEW."label_delay_seconds", NEW."limit_clear_windows", NEW."limit_hits", NEW."limit_value", NEW."limit_windows", NEW."machine_id", NEW."min_effect", NEW."min_evaluations", NEW."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'update\', NEW."id", NEW."primary_metric", NEW."q", NEW."retrain_automatically", NEW."retrain_cooldown_seconds", NEW."retrain_daily_cap", NEW."retrain_every_seconds", NEW."retrain_tries", NEW."season", NEW."test_duration_hours", NEW."train_since_change", NEW."trainer", NEW."training_retries", NEW."training_source", NEW."training_window_days"); RETURN NULL;',
                    hash="0c74c29296025af1d9d99ac4cc15469bee8704a3",
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
                    func='INSERT INTO "model_policy_events" ("after_training", "alert_on_outlier", "clear_value", "created_at", "directions", "expected_cadence_seconds", "fleet_alert_machines", "fleet_alert_share", "id", "label_delay_seconds", "limit_clear_windows", "limit_hits", "limit_value", "limit_windows", "machine_id", "min_effect", "min_evaluations", "model_type", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "primary_metric", "q", "retrain_automatically", "retrain_cooldown_seconds", "retrain_daily_cap", "retrain_every_seconds", "retrain_tries", "season", "test_duration_hours", "train_since_change", "trainer", "training_retries", "training_source", "training_window_days") VALUES (OLD."after_training", OLD."alert_on_outlier", OLD."clear_value", OLD."created_at", OLD."directions", OLD."expected_cadence_seconds", OLD."fleet_alert_machines", OLD."fleet_alert_share", OLD."id", OLD."label_delay_seconds", OLD."limit_clear_windows", OLD."limit_hits", OLD."limit_value", OLD."limit_windows", OLD."machine_id", OLD."min_effect", OLD."min_evaluations", OLD."model_type", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'delete\', OLD."id", OLD."primary_metric", OLD."q", OLD."retrain_automatically", OLD."retrain_cooldown_seconds", OLD."retrain_daily_cap", OLD."retrain_every_seconds", OLD."retrain_tries", OLD."season", OLD."test_duration_hours", OLD."train_since_change", OLD."trainer", OLD."training_retries", OLD."training_source", OLD."training_window_days"); RETURN NULL;',
                    hash="b497cd5d4ed7acd0c60af6da58ed76a467c8dee8",
                    operation="DELETE",
                    pgid="pgtrigger_delete_delete_84973",
                    table="model_policies",
                    when="AFTER",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("state", "snoozed"),
                        models.Q(
                            ("snoozed_until__isnull", False),
                            ("snoozed_until_count__isnull", False),
                            ("snoozed_until_worse", True),
                            _connector="OR",
                        ),
                    ),
                    models.Q(
                        models.Q(("state", "snoozed"), _negated=True),
                        ("snoozed_peak__isnull", True),
                        ("snoozed_until__isnull", True),
                        ("snoozed_until_count__isnull", True),
                        ("snoozed_until_worse", False),
                    ),
                    _connector="OR",
                ),
                name="model_alerts_snoozed_paired",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("acknowledged_at__isnull", True), ("acknowledged_by", "")),
                    models.Q(
                        ("acknowledged_at__isnull", False),
                        models.Q(("acknowledged_by", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="model_alerts_acknowledged_paired",
            ),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("reopened_at__isnull", True), ("reopened_by", "")),
                    models.Q(
                        ("reopened_at__isnull", False), models.Q(("reopened_by", ""), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="model_alerts_reopened_paired",
            ),
        ),
        migrations.AddField(
            model_name="alertcomment",
            name="alert",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="comments",
                to="modelperf.alert",
            ),
        ),
        migrations.AddField(
            model_name="alertevent",
            name="assignee",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                related_query_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="alertevent",
            name="pgh_obj",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="events",
                related_query_name="+",
                to="modelperf.alert",
            ),
        ),
        migrations.AddField(
            model_name="alertevent",
            name="team",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                related_query_name="+",
                to="auth.group",
            ),
        ),
        migrations.AddField(
            model_name="message",
            name="channel",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="messages",
                to="modelperf.channel",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="message",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="deliveries",
                to="modelperf.message",
            ),
        ),
        migrations.AddField(
            model_name="notice",
            name="alert",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notices",
                to="modelperf.alert",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="notice",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="deliveries",
                to="modelperf.notice",
            ),
        ),
        migrations.AddField(
            model_name="route",
            name="channel",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="routes",
                to="modelperf.channel",
            ),
        ),
        migrations.AddField(
            model_name="message",
            name="route",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="messages",
                to="modelperf.route",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="route",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="deliveries",
                to="modelperf.route",
            ),
        ),
        migrations.AddField(
            model_name="routeevent",
            name="channel",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                related_query_name="+",
                to="modelperf.channel",
            ),
        ),
        migrations.AddField(
            model_name="routeevent",
            name="pgh_obj",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                related_query_name="+",
                to="modelperf.route",
            ),
        ),
        migrations.AddConstraint(
            model_name="silence",
            constraint=models.CheckConstraint(
                condition=models.Q(("ends_at__gte", models.F("starts_at"))), name="silences_order"
            ),
        ),
        migrations.AddConstraint(
            model_name="silence",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="silences_reason"
            ),
        ),
        migrations.AddConstraint(
            model_name="silence",
            constraint=models.CheckConstraint(
                condition=models.Q(("owner", ""), _negated=True), name="silences_owner"
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="silence",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="deliveries",
                to="modelperf.silence",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="silence",
            trigger=pgtrigger.compiler.Trigger(
                name="insert_insert",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "silence_events" ("created_at", "created_by", "ends_at", "id", "matchers", "owner", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "reason", "starts_at") VALUES (NEW."created_at", NEW."created_by", NEW."ends_at", NEW."id", NEW."matchers", NEW."owner", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'insert\', NEW."id", NEW."reason", NEW."starts_at"); RETURN NULL;',
                    hash="73d58bfc0ba486f43a2611ced485a5ffa9718915",
                    operation="INSERT",
                    pgid="pgtrigger_insert_insert_855e0",
                    table="silences",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="silence",
            trigger=pgtrigger.compiler.Trigger(
                name="update_update",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition="WHEN (OLD.* IS DISTINCT FROM NEW.*)",
                    func='INSERT INTO "silence_events" ("created_at", "created_by", "ends_at", "id", "matchers", "owner", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "reason", "starts_at") VALUES (NEW."created_at", NEW."created_by", NEW."ends_at", NEW."id", NEW."matchers", NEW."owner", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'update\', NEW."id", NEW."reason", NEW."starts_at"); RETURN NULL;',
                    hash="57065148468b13d466f7a80adcd625a5c9f77081",
                    operation="UPDATE",
                    pgid="pgtrigger_update_update_b54ca",
                    table="silences",
                    when="AFTER",
                ),
            ),
        ),
        migrations.AddField(
            model_name="silenceevent",
            name="pgh_obj",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="events",
                related_query_name="+",
                to="modelperf.silence",
            ),
        ),
        migrations.AddConstraint(
            model_name="alertcomment",
            constraint=models.CheckConstraint(
                condition=models.Q(("text", ""), _negated=True), name="model_alert_comments_text"
            ),
        ),
        migrations.AddIndex(
            model_name="alertevent",
            index=models.Index(fields=["pgh_obj", "pgh_id"], name="model_alert_events_of_alert"),
        ),
        migrations.AddIndex(
            model_name="notice",
            index=models.Index(
                condition=models.Q(("routed_at__isnull", True)),
                fields=["id"],
                name="notices_to_route",
            ),
        ),
        migrations.AddConstraint(
            model_name="notice",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "kind__in",
                        [
                            "opened",
                            "reopened",
                            "severity_rose",
                            "snooze_over",
                            "silence_over",
                            "resolved",
                        ],
                    )
                ),
                name="notices_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="route",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("quiet_from__isnull", True), ("quiet_until__isnull", True)),
                    models.Q(("quiet_from__isnull", False), ("quiet_until__isnull", False)),
                    _connector="OR",
                ),
                name="notification_routes_quiet_paired",
            ),
        ),
        migrations.AddConstraint(
            model_name="route",
            constraint=models.CheckConstraint(
                condition=models.Q(("group_seconds__lte", 86400)), name="notification_routes_group"
            ),
        ),
        migrations.AddConstraint(
            model_name="route",
            constraint=models.CheckConstraint(
                condition=models.Q(("most_per_hour__gte", 1)), name="notification_routes_most"
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="route",
            trigger=pgtrigger.compiler.Trigger(
                name="insert_insert",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "notification_route_events" ("channel_id", "created_at", "group_seconds", "id", "is_enabled", "matchers", "most_per_hour", "name", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "quiet_from", "quiet_severity", "quiet_timezone", "quiet_until", "tells_resolved") VALUES (NEW."channel_id", NEW."created_at", NEW."group_seconds", NEW."id", NEW."is_enabled", NEW."matchers", NEW."most_per_hour", NEW."name", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'insert\', NEW."id", NEW."quiet_from", NEW."quiet_severity", NEW."quiet_timezone", NEW."quiet_until", NEW."tells_resolved"); RETURN NULL;',
                    hash="a5778275e46fdd35868eb5eb48112fea541e24b3",
                    operation="INSERT",
                    pgid="pgtrigger_insert_insert_2f9f5",
                    table="notification_routes",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="route",
            trigger=pgtrigger.compiler.Trigger(
                name="update_update",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition="WHEN (OLD.* IS DISTINCT FROM NEW.*)",
                    func='INSERT INTO "notification_route_events" ("channel_id", "created_at", "group_seconds", "id", "is_enabled", "matchers", "most_per_hour", "name", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "quiet_from", "quiet_severity", "quiet_timezone", "quiet_until", "tells_resolved") VALUES (NEW."channel_id", NEW."created_at", NEW."group_seconds", NEW."id", NEW."is_enabled", NEW."matchers", NEW."most_per_hour", NEW."name", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'update\', NEW."id", NEW."quiet_from", NEW."quiet_severity", NEW."quiet_timezone", NEW."quiet_until", NEW."tells_resolved"); RETURN NULL;',
                    hash="e7a99606c4cc4098b31dcc92c4a6a8daa53852ed",
                    operation="UPDATE",
                    pgid="pgtrigger_update_update_39808",
                    table="notification_routes",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="route",
            trigger=pgtrigger.compiler.Trigger(
                name="delete_delete",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func='INSERT INTO "notification_route_events" ("channel_id", "created_at", "group_seconds", "id", "is_enabled", "matchers", "most_per_hour", "name", "pgh_context", "pgh_context_id", "pgh_created_at", "pgh_label", "pgh_obj_id", "quiet_from", "quiet_severity", "quiet_timezone", "quiet_until", "tells_resolved") VALUES (OLD."channel_id", OLD."created_at", OLD."group_seconds", OLD."id", OLD."is_enabled", OLD."matchers", OLD."most_per_hour", OLD."name", COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_metadata\', TRUE), \'\'), NULL)::JSONB, COALESCE(NULLIF(CURRENT_SETTING(\'pghistory.context_id\', TRUE), \'\'), NULL)::UUID, NOW(), \'delete\', OLD."id", OLD."quiet_from", OLD."quiet_severity", OLD."quiet_timezone", OLD."quiet_until", OLD."tells_resolved"); RETURN NULL;',
                    hash="a27ef62cb8f7db8122c155442b6d3d7b4d319abc",
                    operation="DELETE",
                    pgid="pgtrigger_delete_delete_c062e",
                    table="notification_routes",
                    when="AFTER",
                ),
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("status", "waiting")),
                fields=["due_at"],
                name="notification_messages_due",
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["route", "-sealed_at"], name="notification_messages_sealed"),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at__isnull", True), ("status", "waiting")),
                    models.Q(
                        models.Q(("status", "waiting"), _negated=True), ("ended_at__isnull", False)
                    ),
                    _connector="OR",
                ),
                name="notification_messages_ended_paired",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("lease_id__isnull", True), ("leased_until__isnull", True)),
                    models.Q(("lease_id__isnull", False), ("leased_until__isnull", False)),
                    _connector="OR",
                ),
                name="notification_messages_lease_paired",
            ),
        ),
        migrations.AddConstraint(
            model_name="message",
            constraint=models.UniqueConstraint(
                condition=models.Q(("sealed_at__isnull", True), ("status", "waiting")),
                fields=("route", "is_held"),
                name="notification_messages_one_gathers",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                fields=("notice", "route"), name="notice_deliveries_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("decision", "told"), ("message__isnull", False)),
                    models.Q(("decision", "told"), _negated=True),
                    _connector="OR",
                ),
                name="notice_deliveries_told_paired",
            ),
        ),
        migrations.AddConstraint(
            model_name="policy",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("limit_clear_windows__isnull", True),
                    ("limit_clear_windows__range", (1, 100)),
                    _connector="OR",
                ),
                name="model_policies_limit_clear_windows",
                violation_error_code="limit_clear_windows",
                violation_error_message="limit_clear_windows lies between 1 and 100.",
            ),
        ),
        _with_view,
    ]
