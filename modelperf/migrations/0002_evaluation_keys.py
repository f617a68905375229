"""Keys that hold machine_id, so that evaluations can be distributed by machine.

Django's primary key stays `id`; in the database it is (id, machine_id). One composite foreign key
ties an evaluation to its model's machine, type and version at the price of a single look-up.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("modelperf", "0001_tables")]

    operations = [
        migrations.RunSQL(
            sql="""
                ALTER TABLE model_performance_metrics
                    DROP CONSTRAINT model_performance_metrics_pkey,
                    ADD CONSTRAINT model_performance_metrics_pkey PRIMARY KEY (id, machine_id),
                    ADD CONSTRAINT model_performance_metrics_model FOREIGN KEY
                        (model_id, machine_id, model_type, model_version)
                        REFERENCES model_versions (id, machine_id, model_type, model_version);
                ALTER TABLE model_metric_revisions
                    DROP CONSTRAINT model_metric_revisions_pkey,
                    ADD CONSTRAINT model_metric_revisions_pkey PRIMARY KEY (id, machine_id),
                    ADD CONSTRAINT model_metric_revisions_metric FOREIGN KEY
                        (metric_id, machine_id)
                        REFERENCES model_performance_metrics (id, machine_id)
                        ON DELETE CASCADE;
                -- Rows that every evaluation rewrites leave room for their next version.
                ALTER TABLE model_latest_performance SET (fillfactor = 50);
                ALTER TABLE model_drift_states SET (fillfactor = 50);
                ALTER TABLE model_series SET (fillfactor = 70);
            """,
            reverse_sql="""
                ALTER TABLE model_series RESET (fillfactor);
                ALTER TABLE model_drift_states RESET (fillfactor);
                ALTER TABLE model_latest_performance RESET (fillfactor);
                ALTER TABLE model_metric_revisions
                    DROP CONSTRAINT model_metric_revisions_metric,
                    DROP CONSTRAINT model_metric_revisions_pkey,
                    ADD CONSTRAINT model_metric_revisions_pkey PRIMARY KEY (id);
                ALTER TABLE model_performance_metrics
                    DROP CONSTRAINT model_performance_metrics_model,
                    DROP CONSTRAINT model_performance_metrics_pkey,
                    ADD CONSTRAINT model_performance_metrics_pkey PRIMARY KEY (id);
            """,
        ),
    ]
