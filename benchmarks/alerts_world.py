"""A fleet whose alerts have piled up for two years, made by the server itself in one go."""

from __future__ import annotations

from typing import Final

SERIES: Final = 10_000
TESTS: Final = 1_000
YEARS: Final = 2

_FLEET: Final = """
    INSERT INTO machines (id, name, type, location, is_active, data_interval_seconds, metadata,
        created_at)
    SELECT gen_random_uuid(), 'pump ' || n, 'pump', 'hall ' || n %% 40, true, 3600, '{}', now()
    FROM generate_series(1, %(series)s) AS n;

    INSERT INTO model_series (id, machine_id, model_type, created_at)
    SELECT gen_random_uuid(), id, 'forecast', now() FROM machines;

    INSERT INTO model_versions (id, machine_id, model_type, model_version, is_active, trained_at,
        feature_names, hyperparameters, metadata, created_at)
    SELECT gen_random_uuid(), id, 'forecast', version, version = 1, now(), '{}', '{}', '{}', now()
    FROM machines CROSS JOIN generate_series(1, 2) AS version;

    INSERT INTO model_latest_performance (id, model_id, machine_id, model_type, model_version,
        evaluation_date, evaluation_start, evaluation_end, sample_count, metrics, r_squared, rmse,
        mae, mape, drift_detected, drift_score, evaluation_notes, created_by, revision, metadata,
        created_at)
    SELECT gen_random_uuid(), id, machine_id, model_type, model_version, now(),
        now() - interval '1 day', now(), 24, jsonb_build_object('r_squared', 0.9, 'rmse', 1.5,
            'mae', 1.1, 'mape', 12.4, 'cv_rmse', 20.3, 'nmbe', -0.4),
        0.9, 1.5, 1.1, 12.4, false, 1.7, '', 'key:nightly', 1, '{}', now()
    FROM model_versions WHERE is_active;

    INSERT INTO model_ab_tests (id, test_name, model_type, machine_id, model_a_id, model_a_version,
        model_b_id, model_b_version, test_start, test_status, traffic_split_a, traffic_split_b,
        model_a_metrics, model_b_metrics, evidence, confidence_level, decision_notes, created_by,
        metadata, created_at, min_duration_seconds)
    SELECT gen_random_uuid(), 'Is version 2 better?', 'forecast', a.machine_id, a.id, 1, b.id, 2,
        now() - interval '9 days', 'running', 0.5, 0.5, '{"mae": 1.1}', '{"mae": 1.0}',
        '{"n": 9, "log_e": 0.7}', 0.95, '', 'key:nightly', '{}', now(), 0
    FROM model_versions AS a
    JOIN model_versions AS b ON b.machine_id = a.machine_id AND b.model_version = 2
    WHERE a.model_version = 1 ORDER BY a.id LIMIT %(tests)s;
"""

# Ids grow with time, as those that the product makes. Two years in the order they were opened in;
# what is unresolved is of all ages, most of it young.
_ALERTS: Final = """
    INSERT INTO model_alerts (id, alert_type, condition_key, state, occurrences, revision, severity,
        model_id, model_type, machine_id, model_version, alert_timestamp, alert_message,
        alert_details, current_metric_value, threshold_value, baseline_metric_value,
        peak_metric_value, last_seen_at, seen_through, told_through, acknowledged_at,
        acknowledged_by, snoozed_until, snoozed_until_worse, reopened_by, is_resolved, resolved_at,
        resolution_action, resolved_by, resolution_notes, auto_action_taken, auto_action_type,
        metadata, created_at, assignee_id, team_id)
    SELECT (lpad(to_hex((extract(epoch FROM opened_at) * 1000)::bigint), 12, '0')
            || substr(replace(gen_random_uuid()::text, '-', ''), 13))::uuid,
        type, format('series:%%s:forecast:%%s:%%s', machine_id, type, alerts.n), state,
        1 + alerts.n %% 40, CASE state WHEN 'open' THEN 1 ELSE 2 END,
        CASE WHEN alerts.n %% 10 = 0 THEN 'critical' WHEN alerts.n %% 10 < 8 THEN 'warning'
            ELSE 'normal' END,
        model_id, 'forecast', machine_id, 1, opened_at,
        format('%%s · forecast v1: MAE is worse since %%s, 1.02 before and 1.31 since.',
            machine_name, opened_at::date),
        jsonb_build_object('rule', 'change_point', 'metric', 'mae', 'n_since', 1 + alerts.n %% 40,
            'baseline', 1.02, 'current', 1.31, 'threshold', 4.1, 'statistic', 5.3,
            'peak_statistic', 5.9, 'confirmed_p', 0.00013, 'change_index', 171, 'changed_at',
            to_char(opened_at - interval '14 days', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
        1.31, 4.1, 1.02, 1.38, opened_at + interval '3 hours', opened_at, opened_at,
        CASE state WHEN 'acknowledged' THEN opened_at + interval '1 hour' END,
        CASE state WHEN 'acknowledged' THEN 'user:anna' ELSE '' END,
        CASE state WHEN 'snoozed' THEN now() + interval '2 days' END, false, '',
        state = 'resolved', CASE state WHEN 'resolved' THEN opened_at + interval '2 days' END,
        CASE state WHEN 'resolved' THEN 'recovered' ELSE '' END,
        CASE state WHEN 'resolved' THEN 'system' END, '', false, '', '{}', opened_at,
        CASE alerts.n %% 3 WHEN 0 THEN %(user)s END, CASE alerts.n %% 2 WHEN 0 THEN %(team)s END
    FROM (
        SELECT n,
            now() - (%(alerts)s - n) * interval '1 year' * %(years)s / %(alerts)s AS opened_at,
            (ARRAY['drift_detected', 'drift_detected', 'performance_degradation', 'data_drift',
                'evaluation_missing'])[1 + n %% 5] AS type,
            CASE WHEN spared.n IS NULL THEN 'resolved'
                ELSE (ARRAY['open', 'open', 'open', 'acknowledged', 'snoozed'])[1 + spared.at %% 5]
            END AS state
        FROM generate_series(1, %(alerts)s) AS n
        LEFT JOIN (
            SELECT at, %(alerts)s - at
                - floor((%(alerts)s - %(unresolved)s) * (at / %(unresolved)s::float8) ^ 3)::int AS n
            FROM generate_series(0, %(unresolved)s - 1) AS at
        ) AS spared USING (n)
    ) AS alerts
    JOIN (
        SELECT v.id AS model_id, v.machine_id, m.name AS machine_name,
            row_number() OVER (ORDER BY v.id) AS number
        FROM model_versions AS v JOIN machines AS m ON m.id = v.machine_id WHERE v.is_active
    ) AS series ON series.number = 1 + alerts.n %% %(series)s
    ORDER BY alerts.n
"""


def make(*, alerts: int, unresolved: int, user_id: int, team_id: int) -> None:
    """Fill the tables. Triggers are off meanwhile: what they would write is not measured."""
    from django.db import connection

    given = {
        "series": SERIES,
        "tests": TESTS,
        "years": YEARS,
        "alerts": alerts,
        "unresolved": unresolved,
        "user": user_id,
        "team": team_id,
    }
    with connection.cursor() as cursor:
        for statement in _FLEET.split(";")[:-1]:
            cursor.execute(statement, given)
        cursor.execute("ALTER TABLE model_alerts DISABLE TRIGGER USER")
        cursor.execute(_ALERTS, given)
        cursor.execute("ALTER TABLE model_alerts ENABLE TRIGGER USER")
        cursor.execute("VACUUM (ANALYZE)")
