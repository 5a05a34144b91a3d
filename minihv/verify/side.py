"""One of the two machines of a lock step: an engine with memory and devices of its own, advanced in steps."""

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from minihv.boot.plan import BootPlan
from minihv.exits import BudgetSpent, DebugStop, Exit, Idle, Interrupted
from minihv.host.console import BufferSink
from minihv.machine.build import build
from minihv.machine.config import MachineConfig
from minihv.machine.console import Console
from minihv.machine.outcome import Outcome, outcome
from minihv.x86.paging import translate
from minihv.x86.state import CpuState

POLL_SECONDS = 0.05
"""How often an engine of its own threads is asked whether its vCPU sleeps for ever."""
EXITS_PER_STEP = 10_000
"""A step that takes more exits than this is a machine that does not get anywhere."""


class Event(NamedTuple):
    """An exit as the guest meant it: what it did, to which port, GPA or number, with which bytes."""

    kind: str
    place: int
    data: bytes
    size: int

    def __str__(self) -> str:
        what = self.data.hex(" ") if self.data else f"{self.size} bytes"
        return f"{self.kind} {self.place:#x}: {what}"


class Side:
    """Raises what `machine.build` raises. Close it."""

    def __init__(self, config: MachineConfig, plan: BootPlan) -> None:
        self.name = config.engine
        self.sink = BufferSink()
        self._console = Console(config, self.sink, None, _nobody_listens, _nobody_types)
        self.parts = build(config, plan, self.sink, self._console.source)
        engine = self.parts.engine
        assert engine is not None
        self.engine = engine
        self.loop = self.parts.loops[0]
        self.vcpu = self.loop.vcpu
        self.vcpu.attach_thread()
        self.pvm = engine.describe().get("kvm") == "pvm"
        self._stepping = False
        self._done = threading.Event()
        self._poller: threading.Thread | None = None
        if engine.traits.parallel:
            self._poller = threading.Thread(target=self._poll, name=f"{self.name} poll", daemon=True)
            self._poller.start()

    @property
    def outcome(self) -> Outcome | None:
        """How the machine ended; None while it goes on."""
        return self.parts.stop.outcome

    def can_step(self, state: CpuState) -> bool:
        """Whether the instruction at `state` can be executed alone. PVM gives the step trap of ring 3 to the
        guest instead of us."""
        ring3 = bool(state.cr0 & 1) and state.ss.dpl == 3 and not state.rflags & 1 << 17
        return self.engine.traits.single_step and not (self.pvm and ring3)

    def state(self) -> CpuState:
        """The vCPU's state, the exit before it completed."""
        return self.vcpu.get_state()

    def step(self) -> list[Event]:
        """One instruction, with the exits that it needs."""
        self._set_stepping(True)
        return self._go(1)

    def run_to_exit(self) -> list[Event]:
        """Until something was handled."""
        self._set_stepping(False)
        return self._go(None)

    def run(self, budget: int) -> list[Event]:
        """So many instructions; for engines that count them."""
        self._set_stepping(False)
        target = self.vcpu.instructions + budget
        exits: list[Event] = []
        while self.outcome is None and (left := target - self.vcpu.instructions) > 0:
            exits += self._go(left)
        return exits

    def _set_stepping(self, on: bool) -> None:
        if on != self._stepping:
            self.vcpu.debug(single_step=on)
            self._stepping = on

    def _go(self, budget: int | None) -> list[Event]:
        """Until the step, the budget or one exit is over."""
        exits: list[Event] = []
        for _ in range(EXITS_PER_STEP):
            self._wake()
            if self.outcome is not None:
                break
            exit = self.vcpu.run(budget)
            if isinstance(exit, DebugStop | BudgetSpent):
                break
            if isinstance(exit, Interrupted):
                continue
            if isinstance(exit, Idle):
                self.parts.stop(outcome("halted"))
                break
            self._handle(exit, exits)
            self._settle(exits)
            break
        return exits

    def _handle(self, exit: Exit, exits: list[Event]) -> None:
        exits.append(event(exit))
        self.loop.handle(exit)

    def _settle(self, exits: list[Event]) -> None:
        """Complete the instruction of the exit; the step that ends with it is no news."""
        while self.outcome is None:
            exit = self.vcpu.finish()
            if exit is None or isinstance(exit, DebugStop | BudgetSpent):
                break
            self._handle(exit, exits)

    def _wake(self) -> None:
        """Timers of a board in software; and the wait for them where the vCPU sleeps."""
        if self.engine.traits.parallel:
            return
        board, clock = self.parts.board, self.parts.clock
        while self.outcome is None:
            due = board.next_deadline()
            if due is not None and due <= (now := clock()):
                board.tick(now)
            if not self.loop.asleep:
                return
            due = board.next_deadline()
            if due is None:
                self.parts.stop(outcome("halted"))
                return
            time.sleep(clock.until(due) / 1e9)

    def _poll(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.parts.idle.begin()
            self.engine.poll()

    def code(self, state: CpuState) -> bytes:
        """Up to 15 bytes at CS:RIP."""
        base = 0 if state.cs.long else state.cs.base
        found = b""
        for n in range(15):
            linear = base + state.rip + n
            gpa = translate(self.parts.memory.read_int, state.cr0, state.cr3, state.cr4, state.efer, linear)
            region = self.parts.memory.find(gpa) if gpa is not None else None
            if gpa is None or region is None:
                break
            found += self.parts.memory.read(gpa, 1)
        return found

    def close(self) -> None:
        """The machine with everything in it."""
        self._done.set()
        if self._poller is not None:
            self._poller.join()
        self.vcpu.detach_thread()
        self.parts.close()
        self._console.close()


def _nobody_listens(error: OSError) -> None:
    """A console in memory does not break."""


def _nobody_types() -> None:
    """There is no terminal whose Ctrl-A x could end the comparison."""


def event(exit: Exit) -> Event:
    """What an exit was, without what depends on the engine (RIP before or after the instruction)."""
    place = next(
        (getattr(exit, name) for name in ("port", "gpa", "index", "number") if hasattr(exit, name)), 0
    )
    data = getattr(exit, "data", b"")
    size = getattr(exit, "size", 0) * getattr(exit, "count", 1)
    return Event(type(exit).__name__, place, data if isinstance(data, bytes) else b"", size)


def merged(events: Iterable[Event]) -> list[Event]:
    """Events in a row at the same place as one: engines cut REP INS and OUTS as they like."""
    found: list[Event] = []
    for one in events:
        if found and found[-1].kind == one.kind and found[-1].place == one.place:
            found[-1] = one._replace(data=found[-1].data + one.data, size=found[-1].size + one.size)
        else:
            found.append(one)
    return found
