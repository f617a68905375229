"""The database views. A definition is never edited once shipped: a change is a new version."""

from pathlib import Path

from django.db.migrations import RunSQL

_VIEWS = Path(__file__).parent / "views"


def create_view(name: str, version: int) -> RunSQL:
    """Return the migration operation that creates one version of a view."""
    definition = (_VIEWS / name / f"v{version}.sql").read_text()
    return RunSQL(
        sql=f"CREATE VIEW {name} AS {definition}", reverse_sql=f"DROP VIEW IF EXISTS {name}"
    )


def replace_view(name: str, version: int) -> tuple[RunSQL, RunSQL]:
    """Return the beginning and the end of a migration that brings a view to a version.

    In between the view is not there, so that columns can change.
    """
    before, after = create_view(name, version - 1), create_view(name, version)
    return RunSQL(sql=before.reverse_sql, reverse_sql=before.sql), after
