"""``ascendctl report``: about the reports themselves."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the ``report`` group."""
    group = typer.Typer(no_args_is_help=True, help="About the reports that verify writes.")
    app.add_typer(group, name="report")

    @group.callback()
    def report() -> None:
        pass

    @group.command()
    def schema() -> None:
        """Print the JSON Schema of the report that `verify --format json` writes."""
        import json

        from ascendctl.report.model import schema as report_schema

        typer.echo(json.dumps(report_schema(), indent=2))
