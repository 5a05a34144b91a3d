"""`run(budget)` is exact, whatever comes in between: exits, faults, rep instructions, halts."""

import random

import pytest

from minihv import Machine, MachineConfig, Report
from minihv.exits import BudgetSpent, Exit, Halt, Interrupted
from minihv.host.console import BufferSink
from minihv.interfaces import Engine, Vcpu
from minihv.machine.build import Parts
from minihv.machine.recorders import Recorder
from minihv.machine.tap import Tap


class Portions(Tap):
    """Runs `inner` in random portions, and checks what each of them executed."""

    def __init__(self, inner: Vcpu, dice: random.Random, log: list[tuple[int, int]]) -> None:
        super().__init__(inner)
        self._dice = dice
        self._log = log

    def run(self, budget: int | None = None) -> Exit:
        portion = min(self._dice.choice((1, 2, 3, 7, 64, 65, 1000)), budget or 1)
        before = self.instructions
        exit = super().run(portion)
        done = self.instructions - before
        self._log.append((portion, done))
        if isinstance(exit, BudgetSpent):
            assert done == portion
        else:
            assert done < portion or (done == portion and isinstance(exit, Halt | Interrupted)), exit
        return exit


class Cutter(Recorder):
    """Puts `Portions` before every vCPU."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.log: list[tuple[int, int]] = []

    def prepare(self, parts: Parts) -> None:
        def tap(engine: Engine, vcpu: Vcpu) -> Vcpu:
            return Portions(vcpu, self._dice, self.log)

        parts.tap(tap)


def play(guest: str, cutter: Cutter | None) -> tuple[Report, bytes]:
    sink = BufferSink()
    config = MachineConfig(engine="interpret", clock="instructions", timeout=60.0)
    with Machine(config, console=sink) as machine:
        machine.load(guest)
        if cutter is not None:
            machine.watch(cutter)
        return machine.run(), sink.data


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("guest", ["strings", "fault", "hello16"])
def test_the_sum_of_the_budgets_is_the_number_of_instructions(guest: str, seed: int) -> None:
    cutter = Cutter(seed)
    report, console = play(guest, cutter)
    whole, whole_console = play(guest, None)
    assert console == whole_console
    assert report.outcome == whole.outcome
    assert report.vcpus[0].instructions == sum(done for _, done in cutter.log)
    assert report.vcpus[0].exits == whole.vcpus[0].exits
    assert report.vcpus[0].instructions == whole.vcpus[0].instructions
