"""The groups viewer, operator and administrator, with what each may do."""

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations

# Keys and channels hold what opens doors elsewhere: they are for administrators alone.
CONFIDENTIAL = ("apikey", "channel")
OPERATES = (
    "change_alert",
    "add_silence",
    "change_silence",
    "add_trainingrun",
    "change_trainingrun",
    "change_modelversion",
    "change_abtest",
    "add_modelperformancemetric",
    "delete_modelperformancemetric",
)


def make_groups(apps: Apps, schema_editor: object) -> None:
    """Make the groups, or give those that exist what they lack; nothing is taken away.

    Permissions are otherwise made after all migrations, so those of this app are made here.
    """
    using = schema_editor.connection.alias
    app = apps.get_app_config("modelperf")
    # An app of migrations has no module, and would be taken for one without models.
    app.models_module = getattr(app, "models_module", None) or True
    create_permissions(app, verbosity=0, apps=apps, using=using)
    groups = apps.get_model("auth", "Group").objects.using(using)
    found = apps.get_model("auth", "Permission").objects.using(using)
    every = found.filter(content_type__app_label="modelperf")
    seen = every.filter(codename__startswith="view_").exclude(
        codename__in=[f"view_{name}" for name in CONFIDENTIAL]
    )
    allowed = {
        "viewer": seen,
        "operator": [*seen, *every.filter(codename__in=OPERATES)],
        "administrator": every,
    }
    for name, permissions in allowed.items():
        group, _ = groups.get_or_create(name=name)
        group.permissions.add(*permissions)


class Migration(migrations.Migration):
    dependencies = [
        ("modelperf", "0011_alert_life"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    # Backwards the groups stay: people are in them, and what they may do is theirs to take away.
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
