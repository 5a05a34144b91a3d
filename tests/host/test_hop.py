"""A running guest goes from one engine to another and back, and does not notice."""

from collections.abc import Callable
from typing import Any

import pytest

from minihv import Machine, Report, UsageError
from minihv.host.console import BufferSink

pytestmark = pytest.mark.kvm


class HoppingSink:
    """A console that changes engines after every `every` bytes, as a device's handler may."""

    def __init__(self, every: int) -> None:
        self.sink = BufferSink()
        self.every = every
        self.hops = 0
        self._count = 0
        self.hop: Callable[[str], None] = lambda name: None

    def write(self, data: bytes, /) -> None:
        self.sink.write(data)
        for _ in data:
            self._count += 1
            if self._count % self.every == 0:
                self.hops += 1
                self.hop("interpret" if self.hops % 2 else "kvm")


def run(guest: str, every: int, **config: Any) -> tuple[str, int, Report]:
    sink = HoppingSink(every)
    machine = Machine(engine="kvm", timeout=60.0, console=sink, **config)
    sink.hop = machine.switch_engine
    report = machine.load(guest).run()
    return sink.sink.data.decode(), sink.hops, report


def plain(guest: str, **config: Any) -> str:
    machine = Machine(engine="kvm", timeout=60.0, **config)
    machine.load(guest).run()
    return machine.console.decode()


@pytest.mark.parametrize(
    "guest", ["hello64", "hello32", "hello16", "fault", "timer", "apic", "multiboot", "strings"]
)
def test_hops_do_not_show(guest: str) -> None:
    console, hops, report = run(guest, 6)
    assert hops > 1
    assert (report.outcome.reason, report.outcome.status) == ("exit", 0)
    assert console == plain(guest)


def test_two_cpus_and_a_live_timer_fifty_times() -> None:
    console, hops, report = run("duet", 2, cpus=2)
    assert hops >= 50
    assert (report.outcome.reason, report.outcome.status) == ("exit", 0)
    assert console == plain("duet", cpus=2)


def test_from_a_tick_on_the_supervisor() -> None:
    machine = Machine(engine="interpret", timeout=60.0)
    machine.load("timer")
    names = iter(["kvm", "interpret"] * 100)
    machine.on_tick(lambda: machine.switch_engine(next(names)), 15_000_000)
    report = machine.run()
    assert (report.outcome.reason, report.outcome.status) == ("exit", 0)
    assert machine.console.decode() == plain("timer")
    assert {"instructions", "exits"} <= report.kernel_counters.keys()  # both engines counted


def test_what_cannot_be_asked_for() -> None:
    machine = Machine(engine="kvm")
    with pytest.raises(UsageError, match="at rest"):
        machine.switch_engine("interpret")
    with pytest.raises(UsageError, match="expected an engine of"):
        machine.switch_engine("bochs")
