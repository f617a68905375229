"""Row losses of A/B tests, and the database's own word that the result of an ended test stands."""

import django.db.models.deletion
from django.db import migrations, models

# What an ended test is judged by and what came of it; the decision is a person's, taken once later.
_RESULT = """
    model_a_id model_a_version model_b_id model_b_version test_start test_end test_status
    traffic_split_a traffic_split_b confidence_level margin min_duration_seconds evidence
    model_a_metrics model_b_metrics winner_model_id winner_declared_at statistical_significance
"""


def _row(of: str, columns: str) -> str:
    return f"({', '.join(f'{of}.{name}' for name in columns.split())})"


GUARD = f"""
CREATE FUNCTION model_ab_tests_result_stands() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the result of an A/B test that is over stands'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'model_ab_tests_result_stands';
END $$;
CREATE TRIGGER model_ab_tests_result_stands BEFORE UPDATE ON model_ab_tests FOR EACH ROW
WHEN (
    OLD.test_status IN ('completed', 'cancelled')
        AND {_row("OLD", _RESULT)} IS DISTINCT FROM {_row("NEW", _RESULT)}
    OR OLD.decision IS NOT NULL
        AND {_row("OLD", "decision decision_notes decided_by decided_at")}
            IS DISTINCT FROM {_row("NEW", "decision decision_notes decided_by decided_at")}
)
EXECUTE FUNCTION model_ab_tests_result_stands();
"""
UNGUARD = """
DROP TRIGGER model_ab_tests_result_stands ON model_ab_tests;
DROP FUNCTION model_ab_tests_result_stands();
"""


class Migration(migrations.Migration):
    dependencies = [("modelperf", "0006_policies")]

    operations = [
        migrations.AddField(
            model_name="abtest",
            name="margin",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="abtest",
            name="min_duration_seconds",
            field=models.FloatField(default=0),
        ),
        migrations.AddConstraint(
            model_name="abtest",
            constraint=models.CheckConstraint(
                condition=models.Q(("margin__isnull", True), ("margin__gte", 0), _connector="OR"),
                name="model_ab_tests_margin",
            ),
        ),
        migrations.AddConstraint(
            model_name="abtest",
            constraint=models.CheckConstraint(
                condition=models.Q(("min_duration_seconds__gte", 0)),
                name="model_ab_tests_min_duration",
            ),
        ),
        migrations.CreateModel(
            name="ABObservation",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("unit", models.CharField(max_length=200)),
                ("loss_a", models.FloatField(null=True)),
                ("loss_b", models.FloatField(null=True)),
                ("revision", models.PositiveIntegerField(default=1)),
                ("replaced", models.JSONField(default=list)),
                ("observed_at", models.DateTimeField()),
                (
                    "test",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="observations",
                        to="modelperf.abtest",
                    ),
                ),
            ],
            options={
                "db_table": "model_ab_observations",
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("test", "unit"), name="model_ab_observations_key"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("loss_a__isnull", False), ("loss_b__isnull", False), _connector="OR"
                        ),
                        name="model_ab_observations_loss",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ABRowState",
            fields=[
                (
                    "test",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="row_state",
                        serialize=False,
                        to="modelperf.abtest",
                    ),
                ),
                (
                    "form",
                    models.CharField(choices=[("pairs", "Pairs"), ("arms", "Arms")], max_length=10),
                ),
                ("rows_a", models.PositiveBigIntegerField(default=0)),
                ("rows_b", models.PositiveBigIntegerField(default=0)),
                ("fold", models.JSONField()),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "db_table": "model_ab_row_states",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("form__in", ["pairs", "arms"])),
                        name="model_ab_row_states_form",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ABLook",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("rows", models.PositiveBigIntegerField()),
                ("looked_at", models.DateTimeField()),
                ("n", models.PositiveBigIntegerField()),
                ("mean_difference", models.FloatField()),
                ("variance", models.FloatField()),
                ("margin", models.FloatField()),
                ("low", models.FloatField(null=True)),
                ("high", models.FloatField(null=True)),
                ("e_value", models.FloatField()),
                ("p_value", models.FloatField()),
                (
                    "test",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="looks",
                        to="modelperf.abtest",
                    ),
                ),
            ],
            options={
                "db_table": "model_ab_looks",
                "ordering": ["rows"],
                "constraints": [
                    models.UniqueConstraint(fields=("test", "rows"), name="model_ab_looks_key")
                ],
            },
        ),
        migrations.RunSQL(GUARD, UNGUARD),
    ]
