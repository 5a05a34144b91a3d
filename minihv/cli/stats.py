"""`minihv stats`: recorded runs again, as a table; two of them side by side."""

import click

from minihv.cli.files import read_text
from minihv.cli.words import tell
from minihv.errors import UsageError


@click.command("stats")
@click.argument("runs", nargs=-1, metavar="A.json [B.json]")
def command(runs: tuple[str, ...]) -> None:
    """Print the table of a run recorded with --stats-json, or what changed from run A to run B."""
    if not 1 <= len(runs) <= 2:
        raise UsageError(
            f"expected one or two files written by --stats-json, found {len(runs)}; name A.json, or A.json "
            "and B.json"
        )
    from minihv.report.read import read_report

    reports = [read_report(read_text(path), path) for path in runs]
    if len(reports) == 1:
        from minihv.report.table import stats_table

        tell(stats_table(reports[0]))
    else:
        from minihv.report.changes import changes_text

        tell(changes_text(reports[0], reports[1], runs[0], runs[1]))
