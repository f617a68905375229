"""The database views. A definition is never edited once shipped: a change is a new version."""

from pathlib import Path

from django.db.migrations import RunSQL

_VIEWS = Path(__file__).parent / "views"


def create_view(name: str, version: int) -> RunSQL:
    """Return the migration operation that creates one version of a view."""
    return RunSQL(sql=_create(name, version), reverse_sql=_drop(name))


def replace_view(name: str, version: int) -> tuple[RunSQL, RunSQL]:
    """Return the beginning and the end of a migration that brings a view to a version.

    In between the view is not there, so that columns can change.
    """
    without = RunSQL(sql=_drop(name), reverse_sql=_create(name, version - 1))
    return without, create_view(name, version)


def _create(name: str, version: int) -> str:
    definition = (_VIEWS / name / f"v{version}.sql").read_text()
    return f"CREATE VIEW {name} AS {definition}"


def _drop(name: str) -> str:
    return f"DROP VIEW IF EXISTS {name}"
