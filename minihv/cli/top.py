"""`minihv top`: the exits of a guest while it runs."""

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from minihv.cli.options import guest_options, machine_config, stoppable
from minihv.cli.run import QUIET_ENDINGS
from minihv.cli.words import note, say, tell
from minihv.host.console import BufferSink
from minihv.machine import config as limits
from minihv.machine.machine import Machine
from minihv.machine.outcome import REASONS
from minihv.machine.sampling import Sampler
from minihv.report.live import EMPTY, SORTS, Sample, line, view
from minihv.report.model import Report

KEYS_NS = 50_000_000
"""How often keys are looked for: no more than a system call each time."""
SHARE = 40
"""A frame comes no sooner than this many times what the last one cost: looking takes 2.5 % at most."""
CTRL_C = 3


@click.command("top")
@click.argument("guest")
@click.option("--engine", type=click.Choice(limits.ENGINES), default="auto", show_default=True)
@click.option("--interval", type=click.FloatRange(0.05, 3600), metavar="SECONDS",
              help="Time between two looks; 0.25 on a terminal, 1 elsewhere.")  # fmt: skip
@guest_options(timeout=None)
def command(guest: str, interval: float | None, **options: Any) -> int:
    """Run GUEST and watch its exits: by kind, by place, over time. Ends with the guest's status.

    On a terminal a full screen: s changes the order, p pauses the view, q ends it all. Elsewhere one line
    every second.
    """
    sink = BufferSink()
    machine = Machine(machine_config(options), console=sink).load(guest)
    assert machine.plan is not None
    sampler = Sampler(machine.plan, sink)
    machine.watch(sampler)
    with stoppable(machine.stop):
        if sys.stdout.isatty():
            report = _on_screen(machine, sampler, guest, interval or 0.25)
        else:
            report = _in_lines(machine, sampler, interval or 1.0)
    end = report.outcome
    assert sampler.last is not None
    tell(line(view(EMPTY, sampler.last)) + " in the whole run\n")
    if end.reason not in QUIET_ENDINGS:
        say(
            f"{guest}: {REASONS[end.reason][1]}{': ' if end.detail else ''}{end.detail} (status {end.status})"
        )
    if report.autopsy:
        note(report.autopsy)
    return end.status


class Looker:
    """Takes a sample when it is time to, and shows what happened since the one before."""

    def __init__(
        self,
        sampler: Sampler,
        interval: float,
        show: Callable[[Sample, Sample], None],
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """`interval` in seconds; `clock` counts ns."""
        self._sampler = sampler
        self._interval = int(interval * 1e9)
        self._show = show
        self._before = EMPTY
        self._clock = clock
        self._due = clock() + self._interval

    def tick(self) -> None:
        """Called often."""
        began = self._clock()
        if began < self._due:
            return
        now = self._sampler.take()
        self._show(self._before, now)
        self._before = now
        done = self._clock()
        self._due = done + max(self._interval, SHARE * (done - began))


def _in_lines(machine: Machine, sampler: Sampler, interval: float) -> Report:
    looker = Looker(sampler, interval, lambda before, now: tell(line(view(before, now)) + "\n"))
    machine.on_tick(looker.tick, min(int(interval * 1e9), KEYS_NS))
    return machine.run()


def _on_screen(machine: Machine, sampler: Sampler, guest: str, interval: float) -> Report:
    from minihv.cli.topscreen import Screen
    from minihv.host.sources import FdSource
    from minihv.host.terminal import RawTerminal

    keys = Keys(machine.stop)
    source = FdSource(0)
    screens: list[Screen] = []
    held: list[tuple[Sample, Sample]] = []

    def show(before: Sample, now: Sample) -> None:
        if not screens:
            screens.append(Screen(guest, sampler.engine, sampler.kvm_words).__enter__())
        if not keys.paused or not held:
            held[:] = [(before, now)]
        found = view(*held[0], keys.sort)
        screens[0].draw(found, held[0][1].console, keys.sort, keys.paused)

    looker = Looker(sampler, interval, show)

    def tick() -> None:
        keys.feed(source.take(64))
        looker.tick()

    machine.on_tick(tick, KEYS_NS)
    with RawTerminal(0):
        try:
            return machine.run()
        finally:
            for screen in screens:
                screen.__exit__()


class Keys:
    """What the keys mean. `stop` is called with a reason on q and Ctrl-C."""

    def __init__(self, stop: Callable[[str], None]) -> None:
        self._stop = stop
        self.sort = SORTS[0]
        self.paused = False

    def feed(self, data: bytes) -> None:
        """Every byte is a key; unknown ones do nothing."""
        for byte in data:
            if byte in b"sS":
                self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
            elif byte in b"pP ":
                self.paused = not self.paused
            elif byte in b"qQ" or byte == CTRL_C:
                self._stop("user")
