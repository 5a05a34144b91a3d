"""`minihv explain`: what each engine does with these very instructions."""

from typing import Any

import click

from minihv.cli.options import command_line, guest_options, machine_config
from minihv.cli.words import tell
from minihv.machine.explain import MAX_STEPS, explain


@click.command("explain")
@click.argument("guest")
@click.option("--at", metavar="SYMBOL|ADDRESS", help="Where to begin: symbol, symbol+0x4 or linear address. "
              "By default the symbol the_add where the image has one, else the entry.")  # fmt: skip
@click.option("--count", type=click.IntRange(1, MAX_STEPS), default=1, show_default=True,
              help="Instructions to explain.")  # fmt: skip
@click.option("--engines", metavar="NAME,...", default="", help="Just these; without it, all that work here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@guest_options(timeout=10.0)
def command(guest: str, at: str | None, count: int, engines: str, as_json: bool, **options: Any) -> None:
    """Tell what each engine does with an instruction of GUEST, what left the guest, and what that cost."""
    names = tuple(name.strip() for name in engines.split(",") if name.strip())
    told = explain(guest, machine_config(options), at, count, names, command=command_line())
    if as_json:
        import json

        tell(json.dumps(told.to_dict(), indent=1) + "\n")
    else:
        from minihv.report.explanation import explanation_text

        tell(explanation_text(told))
