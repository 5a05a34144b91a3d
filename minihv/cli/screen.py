"""`--display live`: the guest's text screen, redrawn in place while it runs."""

import sys

from minihv.machine.machine import Machine

INTERVAL_NS = 100_000_000


def watch_screen(machine: Machine) -> None:
    """Redraw ten times a second; only where standard output is a terminal (elsewhere it shows at the end)."""
    if not sys.stdout.isatty():
        return
    shown: list[str] = []

    def draw(text: list[str]) -> None:
        nonlocal shown
        if text != shown:
            if not shown:
                sys.stdout.write("\x1b[2J")
            shown = text
            sys.stdout.write("\x1b[H" + "\r\n".join(text) + "\r\n")
            sys.stdout.flush()

    machine.on_tick(lambda: draw(machine.live_screen()), INTERVAL_NS)
