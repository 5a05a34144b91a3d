"""`minihv report`: a recorded run as one self-contained HTML page."""

import click

from minihv.cli.files import check_writable, read_text, write_text
from minihv.cli.words import say


@click.command("report")
@click.argument("run", metavar="RUN.json")
@click.option("-o", "--output", metavar="FILE", help="Where the page goes; - is stdout. [default: RUN.html]")
def command(run: str, output: str | None) -> None:
    """Make one HTML page of RUN.json: written by run --stats-json, or by compare or nano with --json.

    The page needs no network and no script.
    """
    from minihv.report.html.documents import document_page

    if output is None:
        output = "-" if run == "-" else f"{run.removesuffix('.json')}.html"
    html = document_page(read_text(run), run)
    check_writable(output)
    write_text(html, output)
    if output != "-":
        say(f"wrote {output}")
