SELECT
    alerts.id,
    alerts.alert_type,
    alerts.condition_key,
    alerts.state,
    alerts.occurrences,
    alerts.severity,
    alerts.model_id,
    alerts.model_type,
    alerts.machine_id,
    alerts.model_version,
    alerts.alert_timestamp,
    alerts.alert_message,
    alerts.alert_details,
    alerts.current_metric_value,
    alerts.threshold_value,
    alerts.baseline_metric_value,
    alerts.is_resolved,
    alerts.resolved_at,
    alerts.resolution_action,
    alerts.resolved_by,
    alerts.resolution_notes,
    alerts.auto_action_taken,
    alerts.auto_action_type,
    alerts.auto_action_result,
    alerts.metadata,
    alerts.created_at,
    machines.name AS machine_name,
    machines.type AS machine_type,
    (extract(epoch FROM now() - alerts.alert_timestamp) / 3600)::double precision AS age_hours
FROM model_alerts AS alerts
LEFT JOIN machines ON machines.id = alerts.machine_id
WHERE NOT alerts.is_resolved
ORDER BY
    CASE alerts.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END,
    alerts.alert_timestamp DESC,
    alerts.id DESC
