"""vCPUs of a software engine in turn: who runs, what wakes a sleeper, when all is over."""

from typing import Any, cast

from test_machine_loop import FakeVcpu, out

from minihv import exits as x
from minihv.bus import Bus
from minihv.devices.callbacks import PortHandler
from minihv.machine.clock import InstructionClock, RealClock
from minihv.machine.idle import IdleRounds
from minihv.machine.loop import VcpuLoop
from minihv.machine.outcome import outcome
from minihv.machine.stop import Pause, Stop
from minihv.machine.turns import QUIET_DEADLINES, TURN, Turns


class Alarm:
    """A board with one timer, which wakes somebody when it falls due."""

    def __init__(self) -> None:
        self.due: int | None = None
        self.rung: list[int] = []
        self.sleeper: Sleepy | None = None

    def next_deadline(self) -> int | None:
        return self.due

    def tick(self, now: int) -> None:
        self.rung.append(now)
        self.due = None
        if self.sleeper is not None:
            self.sleeper.asleep = False


class Sleepy(FakeVcpu):
    """Falls asleep with every HLT and Idle."""

    asleep = False

    def __init__(self, *script: Any, index: int = 0) -> None:
        super().__init__(*script, index=index)
        self.budgets: list[int | None] = []

    def run(self, budget: int | None = None) -> x.Exit:
        self.budgets.append(budget)
        exit = super().run(budget)
        if isinstance(exit, x.Halt | x.Idle):
            self.asleep = True
        return exit


class Party:
    """Loops around some `vcpus` that take turns."""

    def __init__(self, *vcpus: Sleepy, counted: bool = False) -> None:
        self.stop, self.alarm = Stop(), Alarm()
        self.seen: list[int] = []
        ports = Bus("port", 0x10000)
        ports.attach(0xF8, 1, "exit", PortHandler(write=lambda o, s, v: self.stop(outcome("exit", v))))
        loops = [
            VcpuLoop(
                v.index, ports, Bus("mmio", 1 << 52), self.stop, IdleRounds(len(vcpus)),
                observe=lambda index, *_: self.seen.append(index),
            )
            for v in vcpus
        ]  # fmt: skip
        for loop, vcpu in zip(loops, vcpus, strict=True):
            loop.take(vcpu, takes_turns=True)
        self.clock: RealClock | InstructionClock = InstructionClock() if counted else RealClock()
        self.turns = Turns(loops, cast(Any, self.alarm), self.clock, self.stop, Pause())


EXIT = out(0xF8, 7)


def test_each_gets_its_turn_and_the_first_exit_code_ends_it() -> None:
    first = Sleepy(out(0x80, 1), x.BudgetSpent(0), out(0x80, 2), x.BudgetSpent(0))
    party = Party(first, Sleepy(x.BudgetSpent(0), EXIT, index=1))
    party.turns.run()
    assert party.seen == [0, 0, 1]
    assert party.stop.outcome == outcome("exit", 7)
    assert set(first.budgets) == {TURN}


def test_all_asleep_with_interrupts_off_is_the_end() -> None:
    party = Party(Sleepy(x.Halt(False, 0), x.Interrupted()), Sleepy(x.Idle(0), index=1))
    party.turns.run()
    assert party.stop.outcome == outcome("halted")


def test_timers_that_never_wake_a_sleeper_with_interrupts_off_are_not_waited_for_for_ever() -> None:
    party = Party(Sleepy(x.Halt(False, 0), x.Interrupted()), counted=True)
    party.alarm.due = 1000

    def again(now: int) -> None:
        party.alarm.rung.append(now)
        party.alarm.due = now + 1000

    party.alarm.tick = again  # type: ignore[method-assign]
    party.turns.run()
    assert party.stop.outcome == outcome("halted")
    assert len(party.alarm.rung) == QUIET_DEADLINES


def test_a_timer_wakes_a_sleeper() -> None:
    vcpu = Sleepy(x.Halt(True, 0), x.BudgetSpent(0), EXIT)
    party = Party(vcpu)
    party.alarm.sleeper, party.alarm.due = vcpu, party.clock() + 1_000_000
    vcpu.script.insert(1, x.Interrupted())
    party.turns.run()
    assert len(party.alarm.rung) == 1
    assert party.stop.outcome == outcome("exit", 7)


def test_counted_time_skips_what_everybody_sleeps_through() -> None:
    vcpu = Sleepy(x.Halt(True, 0), x.Interrupted(), EXIT)
    party = Party(vcpu, counted=True)
    party.alarm.sleeper, party.alarm.due = vcpu, 10**18
    party.turns.run()
    assert party.alarm.rung == [10**18]
    assert party.stop.outcome == outcome("exit", 7)


def test_with_counted_time_a_turn_ends_where_a_timer_falls_due() -> None:
    vcpu = Sleepy(x.BudgetSpent(0), EXIT)
    party = Party(vcpu, counted=True)
    party.alarm.due = 1234
    party.turns.run()
    assert vcpu.budgets == [13, 13]  # 100 ns each, rounded up; the fake executes none
