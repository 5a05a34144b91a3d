"""The run loop against a vCPU that plays back a script: handling, counting, and every way to end."""

import time
from collections.abc import Callable

import pytest

from minihv import exits as x
from minihv.bus import Bus
from minihv.devices.callbacks import PortHandler
from minihv.interfaces import ExactSite, Site, Watchpoint
from minihv.machine import loop as loop_module
from minihv.machine.idle import IdleRounds
from minihv.machine.loop import VcpuLoop
from minihv.machine.outcome import outcome
from minihv.machine.stop import Stop
from minihv.machine.supervisor import run_group
from minihv.stats import MAX_SITES, SiteInfo
from minihv.x86.state import CpuState

Act = x.Exit | BaseException | Callable[[], x.Exit]


class FakeVcpu:
    """Plays back `script`; an exception in it is raised, a callable is called. Then it sleeps for ever:
    a loop that asks once more than the test expects fails it."""

    instructions = 0

    def __init__(self, *script: Act, index: int = 0) -> None:
        self.index = index
        self.left_ns = 0
        self.script = list(script)
        self.answers: list[bytes] = []
        self.log: list[str] = []

    def attach_thread(self) -> None:
        self.log.append("attach")

    def detach_thread(self) -> None:
        self.log.append("detach")

    def run(self, budget: int | None = None) -> x.Exit:
        if not self.script:
            raise AssertionError("the loop should have ended")
        act = self.script.pop(0)
        if isinstance(act, BaseException):
            raise act
        if callable(act):
            act = act()
        self.left_ns = time.perf_counter_ns()
        return act

    def complete(self, data: bytes) -> None:
        self.answers.append(data)

    def finish(self) -> x.Exit | None:
        return None

    def kick(self) -> None:
        self.log.append("kick")

    def get_state(self) -> CpuState:
        self.log.append("state")
        return CpuState(rip=0x1234)

    def set_state(self, state: CpuState) -> None:
        raise AssertionError("not for a loop")

    def site(self, exit: x.Exit, /) -> Site:
        return ExactSite(0x7C00 + getattr(exit, "rip", 0))

    def debug(
        self,
        single_step: bool,
        breakpoints: tuple[int, ...] = (),
        watchpoints: tuple[Watchpoint, ...] = (),
    ) -> None:
        raise AssertionError("not for a loop")

    def close(self) -> None:
        self.log.append("close")


class Bench:
    """A loop with an empty board, and what comes of it."""

    def __init__(
        self,
        *script: Act,
        cpus: int = 1,
        budget: Callable[[], int] | None = None,
        observe: loop_module.Observer | None = None,
    ) -> None:
        self.vcpu = FakeVcpu(*script)
        self.ports, self.mmio = Bus("port", 0x10000), Bus("mmio", 1 << 52)
        self.stop = Stop()
        self.idle = IdleRounds(cpus)
        self.loop = VcpuLoop(0, self.ports, self.mmio, self.stop, self.idle, None, budget, observe)
        self.loop.take(self.vcpu, takes_turns=False)
        self.ports.attach(0xF8, 1, "exit", PortHandler(write=lambda o, s, v: self.stop(outcome("exit", v))))

    def run(self) -> "Bench":
        run_group([self.loop], None)
        return self

    @property
    def end(self) -> tuple[str, int]:
        assert self.stop.outcome is not None
        return self.stop.outcome.reason, self.stop.outcome.status

    def counted(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for counter in self.loop.stats.counters:
            found[counter.info.name] = found.get(counter.info.name, 0) + counter.count
        return found


def out(port: int, value: int, rip: int = 0) -> x.IoOut:
    return x.IoOut(port, 1, 1, bytes((value,)), rip)


EXIT = out(0xF8, 7, 0x99)


def test_exits_are_handled_answered_and_counted_by_site() -> None:
    b = Bench(
        x.IoIn(0x60, 1, 1, 1),
        out(0x80, 5, 2),
        out(0x80, 5, 2),
        out(0x80, 5, 4),
        x.MmioRead(0xD0000000, 4, 5),
        EXIT,
    )
    b.run()
    assert b.end == ("exit", 7)
    assert b.vcpu.answers == [b"\xff", b"\xff\xff\xff\xff"]
    told = {
        (c.info.direction, c.info.address, c.info.register, c.info.site.address()): c.count
        for c in b.loop.stats.counters
    }
    assert told == {
        ("in", 0x60, "unclaimed", 0x7C01): 1,
        ("out", 0x80, "unclaimed", 0x7C02): 2,
        ("out", 0x80, "unclaimed", 0x7C04): 1,
        ("read", 0xD0000000, "unclaimed", 0x7C05): 1,
        ("out", 0xF8, "exit.PORT", 0x7C99): 1,
    }
    assert b.vcpu.log == ["attach", "detach"]


def test_kicks_and_budgets_are_no_exits_of_the_guest() -> None:
    b = Bench(x.Interrupted(), x.Interrupted(), x.BudgetSpent(3), EXIT).run()
    assert b.counted() == {"io": 1}
    assert b.loop.stats.kicks == 2


def test_a_stopped_machine_is_not_entered() -> None:
    b = Bench()
    b.stop(outcome("timeout"))
    b.run()
    assert b.loop.stats.counters == []


def test_a_turn_ends_when_the_budget_is_spent_or_somebody_kicks() -> None:
    b = Bench(out(0x80, 1), x.BudgetSpent(0), out(0x80, 1), x.Interrupted(), EXIT)
    b.loop.run(1000)
    assert len(b.vcpu.script) == 3
    b.loop.run(1000)
    assert len(b.vcpu.script) == 1
    assert not b.loop.stopped


@pytest.mark.parametrize(
    ("exit", "end"),
    [
        (x.Shutdown(0), ("triple-fault", 242)),
        (x.DebugStop(0, 0), ("debug-stop", 0)),
        (x.Fault("internal-error", "gave up", b"", 0), ("engine-fault", 242)),
        (x.Halt(False, 0), ("halted", 0)),
        (x.Halt(True, 0), ("halted", 0)),
        (x.SystemEvent(x.SystemEventKind.POWER_OFF, 1, 0), ("power-off", 0)),
        (x.SystemEvent(x.SystemEventKind.RESET, 2, 0), ("reset", 0)),
        (x.SystemEvent(x.SystemEventKind.CRASH, 3, 0), ("guest-crash", 242)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_exits_that_end_a_machine(exit: x.Exit, end: tuple[str, int]) -> None:
    b = Bench(exit).run()
    assert b.end == end
    assert sum(b.counted().values()) == 1
    assert (b.loop.final_state is not None) == (end[0] in loop_module.AUTOPSY_REASONS)


def test_an_unknown_system_event_ends_nothing() -> None:
    b = Bench(x.SystemEvent(x.SystemEventKind.OTHER, 9, 0), EXIT).run()
    assert b.end == ("exit", 7)
    assert b.counted() == {"system-event": 1, "io": 1}


def test_two_rounds_of_idle_end_a_machine() -> None:
    b = Bench()

    def asked() -> x.Exit:
        b.idle.begin()
        return x.Idle(0)

    b.vcpu.script = [asked, asked]
    assert b.run().end == ("halted", 0)
    assert b.counted() == {}


def test_a_halted_cpu_waits_for_the_others() -> None:
    b = Bench(x.Halt(False, 0), EXIT, cpus=2).run()
    assert b.end == ("exit", 7)


def test_hypercalls_and_msrs_are_answered() -> None:
    b = Bench(
        x.Hypercall(1, (0,) * 6, 0),
        x.MsrRead(0x1234, "unknown", 0),
        x.MsrWrite(0xC0010000, 1, "unknown", 0),
        EXIT,
    )
    b.run()
    assert b.vcpu.answers == [(-1000 & (1 << 64) - 1).to_bytes(8, "little"), b"", bytes(8)]
    assert b.counted() == {"hypercall": 1, "msr": 2, "io": 1}


@pytest.mark.parametrize("error", [ValueError("bad"), KeyError("k"), SystemExit(3), AssertionError()])
def test_a_handler_that_raises_stops_the_machine_with_its_error_and_the_state(error: BaseException) -> None:
    def read(offset: int, size: int) -> int:
        raise error

    b = Bench(x.IoIn(0x42, 1, 1, 9))
    b.ports.attach(0x42, 1, "mine", PortHandler(read))
    b.run()
    assert b.end == ("handler-failed", 248)
    assert b.loop.failure is error
    assert b.loop.error is None
    assert b.loop.final_state is not None
    assert b.counted() == {"io": 1}, "the exit that failed is counted, too"
    assert list(b.loop.recent) == [x.IoIn(0x42, 1, 1, 9)]
    assert b.vcpu.answers == []


def test_a_handler_that_stops_and_raises_keeps_the_first_reason() -> None:
    b = Bench(x.IoIn(0x42, 1, 1, 0))

    def read(offset: int, size: int) -> int:
        b.stop(outcome("exit", 1))
        raise ValueError("after all")

    b.ports.attach(0x42, 1, "mine", PortHandler(read))
    assert b.run().end == ("exit", 1)
    assert isinstance(b.loop.failure, ValueError)


def test_a_device_that_cannot_name_its_register_stops_the_machine() -> None:
    class Nameless(PortHandler):
        def register(self, offset: int, write: bool) -> str:
            raise LookupError("no name")

    b = Bench(out(0x42, 1))
    b.ports.attach(0x42, 1, "mine", Nameless())
    assert b.run().end == ("handler-failed", 248)
    assert isinstance(b.loop.failure, LookupError)


@pytest.mark.parametrize("place", ["run", "attach", "site", "complete", "state"])
def test_an_engine_that_raises_never_leaves_the_machine_waiting(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = Bench(x.IoIn(0x60, 1, 1, 0), x.Shutdown(0))

    def fails(*_: object) -> None:
        raise OSError(5, "engine broke")

    method = {"attach": "attach_thread", "state": "get_state"}.get(place, place)
    monkeypatch.setattr(b.vcpu, method, fails)
    b.run()
    assert isinstance(b.loop.error, OSError)
    assert b.end == (("triple-fault", 242) if place == "state" else ("vmm-failed", 248))
    assert b.vcpu.log.count("attach") == b.vcpu.log.count("detach")


def test_an_observer_sees_every_exit_and_may_fail() -> None:
    seen: list[tuple[int, x.Exit, SiteInfo, int]] = []

    def observe(vcpu: int, exit: x.Exit, info: SiteInfo, left_ns: int, elapsed_ns: int) -> None:
        assert left_ns > 0
        seen.append((vcpu, exit, info, elapsed_ns))
        if len(seen) == 2:
            raise OSError(28, "no space")

    b = Bench(out(0x80, 1), x.Interrupted(), out(0x81, 1), EXIT, observe=observe).run()
    assert [exit for _, exit, _, _ in seen] == [out(0x80, 1), out(0x81, 1)]
    assert all(elapsed >= 0 for *_, elapsed in seen)
    assert b.end == ("vmm-failed", 248)
    assert isinstance(b.loop.error, OSError)


def test_the_exit_budget_is_exact() -> None:
    left = iter(range(2, -10, -1))
    b = Bench(*[out(0x80, n) for n in range(10)], budget=lambda: next(left)).run()
    assert b.end == ("max-exits", 246)
    assert b.counted() == {"io": 3}


def test_the_last_exit_of_the_budget_may_end_the_machine_itself() -> None:
    left = iter(range(1, -10, -1))
    assert Bench(out(0x80, 0), EXIT, budget=lambda: next(left)).run().end == ("exit", 7)


def test_an_exit_beyond_the_budget_is_not_handled() -> None:
    written: list[int] = []
    b = Bench(out(0x42, 1), budget=lambda: -1)
    b.ports.attach(0x42, 1, "mine", PortHandler(write=lambda o, s, v: written.append(v)))
    b.run()
    assert written == []
    assert b.counted() == {}
    assert b.stop.outcome is None, "whoever took the last one stops the machine"


def test_sites_of_a_hostile_guest_are_bounded() -> None:
    many = [out(n & 0xFFFF if n & 0xFFFF != 0xF8 else 0, n & 0xFF, rip=n) for n in range(MAX_SITES + 3000)]
    b = Bench(*many, *many[-5:], EXIT).run()
    assert len(b.loop.stats.counters) <= MAX_SITES + 10
    assert sum(len(lane.counters) for lane in b.loop.lanes.values()) <= MAX_SITES
    assert b.counted() == {"io": len(many) + 6}


def test_recent_exits_are_the_last_sixteen() -> None:
    b = Bench(*[out(0x80, n) for n in range(40)], EXIT).run()
    assert [e.data[0] for e in b.loop.recent if isinstance(e, x.IoOut)] == [*range(25, 40), 7]
