"""`minihv guests`: what is bundled, and what each guest shows."""

import click

from minihv.cli.words import tell
from minihv.machine.images import ALIASES, bundled_guests


@click.command("guests")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def command(as_json: bool) -> None:
    """List the bundled guests, what each does, and what to look at."""
    guests = bundled_guests()
    if as_json:
        import json

        rows = {g.name: {"file": g.file, "purpose": g.purpose, "shows": g.shows} for g in guests.values()}
        tell(json.dumps({"guests": rows, "aliases": ALIASES}, indent=1) + "\n")
        return
    import shutil
    import textwrap

    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
    names = {target: alias for alias, target in ALIASES.items()}
    lines = []
    for guest in guests.values():
        alias = f" (also: {names[guest.name]})" if guest.name in names else ""
        lines.append(f"{guest.name}{alias}: {guest.purpose}")
        text = f"look at {guest.shows}" if guest.shows else ""
        lines += [f"    {line}" for line in textwrap.wrap(text, width - 4)]
    tell("\n".join((*lines, "", "Run one: minihv run hello --stats", "")))
