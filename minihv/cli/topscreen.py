"""The full-screen view of `minihv top`. Imports rich: only for those who look at it."""

import shutil
from collections import deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from minihv.report.escape import visible
from minihv.report.live import Row, View, bar, console_tail, per_second, spark

BAR = 30
CONSOLE_LINES = 8
FIXED_LINES = 11
"""Lines that everything but the rows of the tables, the vCPUs and the console takes."""


class Screen:
    """Draws views on the alternate screen of the terminal; a context manager that gives the screen back."""

    def __init__(self, guest: str, engine: str, kvm_words: str) -> None:
        self._head = f"{visible(guest)} on {engine}"
        self._kvm = kvm_words
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False, transient=True)
        self._history: deque[float] = deque(maxlen=200)

    def __enter__(self) -> "Screen":
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def draw(self, found: View, console: bytes, sort: str, paused: bool) -> None:
        """One frame."""
        if not paused:
            self._history.append(found.rate)
        self._live.update(self._frame(found, console, sort, paused), refresh=True)

    def _frame(self, found: View, console: bytes, sort: str, paused: bool) -> RenderableType:
        width, height = shutil.get_terminal_size((100, 30))
        room = max(height - FIXED_LINES - len(found.shares) - CONSOLE_LINES, 4)
        kinds = min(len(found.kinds), max(room // 3, 2))
        state = "PAUSED (the guest is not)" if paused else f"{found.seconds:.1f} s"
        title = f"minihv top, {state}, {found.total} exits: {self._head}"
        head = Text(title, style="bold", no_wrap=True, overflow="ellipsis")
        lines: list[RenderableType] = [head]
        if self._kvm:
            lines.append(Text(f"This KVM is {self._kvm}", no_wrap=True, overflow="ellipsis", style="dim"))
        for number, share in enumerate(found.shares):
            text = f"vCPU {number} VMM [{bar(share, BAR)}] {100 * share:3.0f} %, the rest guest and kernel"
            lines.append(Text(text, no_wrap=True, overflow="ellipsis"))
        past = list(self._history)[-max(width - 24, 10) :]
        lines.append(Text(f"{per_second(found.rate):>7} exits/s {spark(past)}", no_wrap=True))
        lines.append(_table("exit", found.kinds[:kinds], sort))
        lines.append(_table("site", found.sites[: room - kinds], sort))
        tail = "\n".join(console_tail(console, CONSOLE_LINES - 2, max(width - 4, 10)))
        lines.append(Panel(Text(tail), title="console", height=CONSOLE_LINES))
        lines.append(Text("s sort   p pause the view   q quit (ends the guest)", style="reverse"))
        return Group(*lines)


def _table(what: str, rows: tuple[Row, ...], sort: str) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column(what, ratio=1, no_wrap=True, overflow="ellipsis")
    for name, key in (("exits/s", "rate"), ("total", "total"), ("avg us", "time")):
        table.add_column(f"{name}{'*' if key == sort else ''}", justify="right", no_wrap=True)
    for row in rows:
        words = f"{row.name} {row.detail} at {row.where}" if row.where else row.name
        table.add_row(Text(visible(words)), per_second(row.rate), str(row.exits), f"{row.mean_us:.2f}")
    return table
