"""Reference distributions and window profiles; machine_id is in every key of the large table."""

import django.db.models.deletion
import django.db.models.lookups
from django.db import migrations, models

import modelperf.models.keys


class Migration(migrations.Migration):
    dependencies = [
        ("modelperf", "0004_checks"),
    ]

    operations = [
        migrations.CreateModel(
            name="FeatureReference",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("feature", "Feature"),
                            ("prediction", "Prediction"),
                            ("target", "Target"),
                        ],
                        max_length=10,
                    ),
                ),
                ("kind", models.CharField(max_length=20)),
                ("profile", models.BinaryField()),
                ("n", models.BigIntegerField()),
                ("window_start", models.DateTimeField(blank=True, null=True)),
                ("window_end", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
                ("created_by", models.CharField(blank=True, default="", max_length=200)),
                ("replaced_at", models.DateTimeField(blank=True, null=True)),
                ("replaced_by", models.CharField(blank=True, max_length=200, null=True)),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="feature_references",
                        to="modelperf.modelversion",
                    ),
                ),
            ],
            options={
                "verbose_name": "reference distribution",
                "db_table": "model_feature_references",
            },
        ),
        migrations.CreateModel(
            name="WindowProfile",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=modelperf.models.keys.uuid7, primary_key=True, serialize=False
                    ),
                ),
                ("model_type", models.CharField(max_length=50)),
                ("model_version", models.PositiveIntegerField()),
                ("feature", models.CharField(max_length=200)),
                ("window_start", models.DateTimeField()),
                ("window_end", models.DateTimeField()),
                ("n", models.BigIntegerField()),
                ("missing", models.BigIntegerField()),
                ("profile", models.BinaryField()),
                ("parts", models.JSONField(blank=True, default=dict)),
                ("revision", models.PositiveIntegerField(default=1)),
                ("created_at", models.DateTimeField()),
                ("created_by", models.CharField(blank=True, default="", max_length=200)),
                (
                    "machine",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="modelperf.machine",
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="modelperf.modelversion",
                    ),
                ),
                (
                    "reference",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="modelperf.featurereference",
                    ),
                ),
            ],
            options={
                "verbose_name": "window profile",
                "db_table": "model_profiles",
            },
        ),
        migrations.AddConstraint(
            model_name="featurereference",
            constraint=models.UniqueConstraint(
                condition=models.Q(("replaced_at__isnull", True)),
                fields=("model", "name"),
                name="model_feature_references_one_current",
            ),
        ),
        migrations.AddConstraint(
            model_name="featurereference",
            constraint=models.CheckConstraint(
                condition=models.Q(("name", ""), _negated=True),
                name="model_feature_references_named",
            ),
        ),
        migrations.AddConstraint(
            model_name="featurereference",
            constraint=models.CheckConstraint(
                condition=models.Q(("role__in", ["feature", "prediction", "target"])),
                name="model_feature_references_role",
            ),
        ),
        migrations.AddConstraint(
            model_name="featurereference",
            constraint=models.CheckConstraint(
                condition=models.Q(("n__gte", 0)), name="model_feature_references_n"
            ),
        ),
        migrations.AddConstraint(
            model_name="featurereference",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.LessThanOrEqual(
                    models.Func(
                        models.F("profile"),
                        function="octet_length",
                        output_field=models.IntegerField(),
                    ),
                    20480,
                ),
                name="model_feature_references_size",
            ),
        ),
        migrations.AddConstraint(
            model_name="featurereference",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("window_end__isnull", True), ("window_start__isnull", True)),
                    models.Q(
                        ("window_end__gt", models.F("window_start")),
                        ("window_end__isnull", False),
                        ("window_start__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="model_feature_references_window",
            ),
        ),
        migrations.AddConstraint(
            model_name="featurereference",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("replaced_at__isnull", True), ("replaced_by__isnull", True)),
                    models.Q(("replaced_at__isnull", False), ("replaced_by__isnull", False)),
                    _connector="OR",
                ),
                name="model_feature_references_replacement_paired",
            ),
        ),
        migrations.AddIndex(
            model_name="windowprofile",
            index=models.Index(
                fields=["reference", "window_end", "machine"], name="model_profiles_of_reference"
            ),
        ),
        migrations.AddConstraint(
            model_name="windowprofile",
            constraint=models.UniqueConstraint(
                fields=("machine", "model_type", "window_end", "window_start", "model", "feature"),
                name="model_profiles_natural_key",
            ),
        ),
        migrations.AddConstraint(
            model_name="windowprofile",
            constraint=models.CheckConstraint(
                condition=models.Q(("window_end__gt", models.F("window_start"))),
                name="model_profiles_window",
            ),
        ),
        migrations.AddConstraint(
            model_name="windowprofile",
            constraint=models.CheckConstraint(
                condition=models.Q(("missing__gte", 0), ("n__gte", 0)), name="model_profiles_counts"
            ),
        ),
        migrations.AddConstraint(
            model_name="windowprofile",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.LessThanOrEqual(
                    models.Func(
                        models.F("profile"),
                        function="octet_length",
                        output_field=models.IntegerField(),
                    ),
                    20480,
                ),
                name="model_profiles_size",
            ),
        ),
        # As with evaluations: the key holds the machine, and one composite foreign key ties a
        # window to its model's series.
        migrations.RunSQL(
            sql="""
                ALTER TABLE model_profiles
                    DROP CONSTRAINT model_profiles_pkey,
                    ADD CONSTRAINT model_profiles_pkey PRIMARY KEY (id, machine_id),
                    ADD CONSTRAINT model_profiles_model FOREIGN KEY
                        (model_id, machine_id, model_type, model_version)
                        REFERENCES model_versions (id, machine_id, model_type, model_version);
            """,
            reverse_sql="""
                ALTER TABLE model_profiles
                    DROP CONSTRAINT model_profiles_model,
                    DROP CONSTRAINT model_profiles_pkey,
                    ADD CONSTRAINT model_profiles_pkey PRIMARY KEY (id);
            """,
        ),
    ]
