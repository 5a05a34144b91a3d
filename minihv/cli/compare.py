"""`minihv compare`: the same guest on every engine, side by side."""

from typing import Any

import click

from minihv.cli.options import EXIT_BY_SIGNAL, command_line, guest_options, machine_config, stoppable
from minihv.cli.words import say, tell
from minihv.errors import EXIT_OK
from minihv.machine.lineup import compare
from minihv.machine.machine import Machine

EXIT_DIFFERENT = 1
"""As with cmp(1) and diff(1)."""

STATUSES = f"""\b
Exit status:
  {EXIT_OK}    outcome and console were the same on every engine, in every run
  {EXIT_DIFFERENT}    they were not
  else as with `minihv run`, where a guest could not be run at all
"""


@click.command("compare", epilog=STATUSES)
@click.argument("guest")
@click.option("--engines", metavar="NAME,...", default="", help="Just these; without it, all that work here.")
@click.option("--runs", type=click.IntRange(1, 1000), default=5, show_default=True,
              help="Runs on each engine; engines take turns, the table shows medians.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@guest_options(timeout=60.0)
def command(guest: str, engines: str, runs: int, as_json: bool, **options: Any) -> int:
    """Run GUEST on each engine, and show what was equal, what was not, and what it cost."""
    names = [name.strip() for name in engines.split(",") if name.strip()]
    present: list[Machine] = []
    interrupted: list[str] = []

    def stop(reason: str) -> None:
        interrupted.append(reason)
        for machine in present:
            machine.stop(reason)

    def started(machine: Machine) -> None:
        present[:] = [machine]
        if interrupted:
            machine.stop(interrupted[0])

    with stoppable(stop):
        result = compare(guest, machine_config(options), names, runs, command=command_line(), started=started)
    if interrupted:
        say("interrupted; a comparison of half the runs would tell nothing, so none is shown")
        return EXIT_BY_SIGNAL[interrupted[0]]
    if as_json:
        import json

        tell(json.dumps(result.to_dict(), indent=1) + "\n")
    else:
        from minihv.report.comparewords import comparison_text

        tell(comparison_text(result))
    return EXIT_OK if result.equal else EXIT_DIFFERENT
