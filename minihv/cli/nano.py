"""`minihv nano`: what single operations cost, on each engine and natively, beside the numbers of 2006."""

import shlex
import sys

import click

from minihv.cli.files import check_writable, write_text
from minihv.cli.words import tell
from minihv.errors import EXIT_OK, UsageError
from minihv.nano.measure import Goal
from minihv.nano.model import NanoReport

ROW_SECONDS = 2.0
"""A row that takes longer than this is content with three rounds."""


@click.command("nano")
@click.option("--engines", metavar="NAME,NAME", help="Engines to measure; default: all that work here.")
@click.option("--only", multiple=True, metavar="ROW", help="Only this row; repeatable.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=25, show_default=True,
              help="How often each row is measured.")  # fmt: skip
@click.option("--goal-ms", type=click.FloatRange(0.001, 10_000), default=1.0, show_default=True,
              help="The count is doubled until a loop takes this long.")  # fmt: skip
@click.option("--native/--no-native", default=True, show_default=True,
              help="Also measure what user space of this host can do.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write one JSON object; - is stdout.")
@click.option("--html", "html_file", metavar="FILE", help="Write a self-contained HTML page.")
def command(
    engines: str | None, only: tuple[str, ...], rounds: int, goal_ms: float, native: bool,
    json_file: str | None, html_file: str | None,
) -> int:  # fmt: skip
    """Measure nanobenchmarks: cycles an operation, medians, beside the published table of 2006."""
    from minihv.nano.survey import choose_engines, choose_rows, take

    names, passed_over = choose_engines(engines)
    rows = choose_rows(only)
    if not names and not native:
        raise UsageError("expected at least one engine or --native, found neither; `minihv doctor` tells why")
    check_writable(json_file, html_file)
    line = ["minihv", "nano", "--engines", ",".join(names)] if names else ["minihv", "nano"]
    line += [word for name in only for word in ("--only", name)]
    line += ["--rounds", str(rounds), "--goal-ms", f"{goal_ms:g}", *([] if native else ["--no-native"])]
    report = take(
        names,
        rows,
        Goal(int(goal_ms * 1e6), rounds, int(ROW_SECONDS * 1e9)),
        native=native,
        passed_over=passed_over,
        progress=_progress,
        command=shlex.join(line),
    )
    _present(report, json_file, html_file)
    return EXIT_OK


def _progress(done: int, steps: int, what: str) -> None:
    """One line that is overwritten, where somebody can see it."""
    if sys.stderr is not None and sys.stderr.isatty():
        words = f"{done + 1}/{steps} {what}" if what else ""
        sys.stderr.write(f"\r{words[:78]:78}\r")
        sys.stderr.flush()


def _present(report: NanoReport, json_file: str | None, html_file: str | None) -> None:
    if json_file != "-":
        from minihv.nano.table import nano_table

        tell(nano_table(report))
    if json_file is not None:
        import json

        write_text(json.dumps(report.to_dict(), indent=1) + "\n", json_file)
    if html_file is not None:
        from minihv.report.html.nano import nano_page

        write_text(nano_page(report.to_dict(), "nano"), html_file)
