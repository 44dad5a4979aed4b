"""The output of `nextk info --postgres`: a database, the indexes of nextk in it, and what is missing."""

from typing import TYPE_CHECKING, Any

from nextk.errors import ClientError
from nextk.extras import require

if TYPE_CHECKING:
    from nextk.postgres.survey import DatabaseSurvey, SurveyedIndex


def show_database(dsn: str, database_schema: str, *, as_json: bool) -> int:
    """Print the versions, the settings and the indexes of a database, and what is missing. Returns the exit code.

    Args:
        dsn: The connection string.
        database_schema: The database schema with the tables of nextk.
        as_json: Whether to print one line of JSON.

    Raises:
        ClientError: The database cannot be used, as one without pgvector.
        NextKError: It cannot be asked; see `nextk.postgres.survey.survey`.
    """
    for module in ("psycopg", "psycopg_pool", "pgvector"):
        require(module, extra="postgres")
    from nextk.cli import screen
    from nextk.postgres.survey import survey

    found = survey(dsn, database_schema)
    if as_json:
        screen.print_json(_values(found, database_schema))
    else:
        _show(found, database_schema)
    if found.fault:
        raise ClientError(found.fault)
    return 0


def _values(found: "DatabaseSurvey", database_schema: str) -> dict[str, Any]:
    return {
        "database": found.place,
        "schema": database_schema,
        **found.facts,
        "indexes": [
            {
                "name": index.name,
                "type": _type(index),
                "records": index.records,
                "dimension": index.schema.dimension,
                "vector_index": index.vector_index,
            }
            for index in found.indexes
        ],
        "fault": found.fault or None,
        "missing": [{"command": remedy.command, "reason": remedy.reason} for remedy in found.missing],
    }


def _show(found: "DatabaseSurvey", database_schema: str) -> None:
    from nextk.cli import screen

    out = screen.Screen()
    facts = screen.columns("database", found.place, filling=found.place)
    facts.add_row("schema", screen.cell(database_schema))
    for name, value in found.facts.items():
        facts.add_row(name.replace("_", " "), value or "not there")
    out.show(facts)
    if found.indexes:
        out.say()
        table = screen.columns(
            "index",
            "type",
            "records",
            "dimension",
            "vector index",
            right=("records", "dimension"),
            filling="vector index",
        )
        for index in found.indexes:
            dimension = index.schema.dimension
            table.add_row(
                screen.cell(index.name),
                _type(index),
                f"{index.records:,}",
                f"{dimension:,}" if dimension else "",
                index.vector_index,
            )
        out.show(table)
    for remedy in found.missing:
        out.say()
        out.copyable(f"{remedy.command};", remedy.reason)


def _type(index: "SurveyedIndex") -> str:
    return "undecided" if index.schema.type is None else index.schema.type.value.lower()
