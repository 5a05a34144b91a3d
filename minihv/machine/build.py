"""Config + BootPlan -> a machine that is ready to run: memory, engine, vCPUs, devices."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

from minihv.boot.plan import BoardFacts, BootPlan, Chunk
from minihv.errors import UsageError
from minihv.host.ram import HostRam
from minihv.interfaces import ByteSink, ByteSource, Engine, Vcpu
from minihv.machine.board import (
    RESERVED_WINDOWS,
    TEST_WINDOW,
    Board,
    Fitting,
    Wiring,
    make_board,
    platform_facts,
    replaced_controllers,
)
from minihv.machine.clock import TSC_HZ, InstructionClock, MachineClock, RealClock
from minihv.machine.config import MachineConfig
from minihv.machine.idle import IdleRounds
from minihv.machine.lines import Lines
from minihv.machine.loop import Observer, VcpuLoop
from minihv.machine.outcome import outcome
from minihv.machine.rescue import Rescuer
from minihv.machine.socket import install
from minihv.machine.stop import Pause, Stop
from minihv.machine.turns import Turns
from minihv.memory import (
    LEGACY_WINDOW_END,
    LEGACY_WINDOW_START,
    RAM_HOLE_START,
    GuestMemory,
    Region,
    ram_layout,
)

if TYPE_CHECKING:
    from minihv.devices.irqchips import IrqChips


Tap = Callable[[Engine, Vcpu], Vcpu]
"""What stands between a loop and its vCPU; see `minihv.machine.tap`."""


class Parts:
    """A built machine. `close` gives back everything, in the reverse order of building."""

    def __init__(
        self, config: MachineConfig, memory: GuestMemory, stores: list[HostRam], without: frozenset[str]
    ) -> None:
        """`without`: controllers whose place a user's own device takes."""
        self.config = config
        self.memory = memory
        self.stores = stores
        self.without = without
        self.stop = Stop()
        self.pause = Pause()
        self.idle = IdleRounds(config.cpus)
        self.clock: MachineClock = InstructionClock() if config.clock == "instructions" else RealClock()
        self.tsc_hz = TSC_HZ
        self.lines = Lines()
        self.engine: Engine | None = None
        self.passed_over: list[str] = []
        self.past_counters: dict[str, int] = {}
        """Counters of the engines that ran this guest before."""
        self.chips: IrqChips | None = None
        self.turns: Turns | None = None
        self.vcpus: list[Vcpu] = []
        self.loops: list[VcpuLoop] = []
        self.thread_hooks: list[Callable[[], None]] = []
        """Called on every vCPU thread before it runs its vCPUs."""
        self._taps: list[Tap] = []
        self._board: Board | None = None
        self._rescuers: list[Rescuer] = []

    @property
    def board(self) -> Board:
        """The board; there is one as soon as `build` is done."""
        assert self._board is not None
        return self._board

    @board.setter
    def board(self, board: Board) -> None:
        self._board = board

    @property
    def has_board(self) -> bool:
        """`build` has come that far."""
        return self._board is not None

    def tap(self, tap: Tap) -> None:
        """Put `tap` between the loops and their vCPUs, also those of engines that come later."""
        self._taps.append(tap)
        assert self.engine is not None
        for loop in self.loops:
            loop.tap(tap(self.engine, loop.vcpu))

    def tapped(self, engine: Engine, vcpu: Vcpu) -> Vcpu:
        """`vcpu`, with all taps before it."""
        for tap in self._taps:
            vcpu = tap(engine, vcpu)
        return vcpu

    def rescuer(self) -> Rescuer:
        """One for a vCPU; closed with the machine."""
        self._rescuers.append(Rescuer(self.memory, self.config.cpus))
        return self._rescuers[-1]

    def kick(self) -> None:
        """Make every vCPU come back from its engine."""
        for vcpu in self.vcpus:
            vcpu.kick()

    def counters(self) -> dict[str, int]:
        """The engine's counters, those of earlier engines added."""
        total = dict(self.past_counters)
        for name, value in self.engine.counters().items() if self.engine is not None else ():
            total[name] = total.get(name, 0) + value
        return total

    def close(self) -> None:
        """Devices, engine (with its vCPUs), memory, whatever of them raises; harmless when done twice."""
        with ExitStack() as stack:
            while self.stores:
                stack.callback(self.stores.pop().close)
            stack.callback(self.memory.release)
            while self._rescuers:
                stack.callback(self._rescuers.pop().close)
            if self.engine is not None:
                stack.callback(self.engine.close)
            if self._board is not None:
                stack.callback(self._board.close)


def board_facts(config: MachineConfig) -> BoardFacts:
    """What loaders may know of the machine."""
    windows = RESERVED_WINDOWS + ((TEST_WINDOW,) if config.board == "testdev" else ())
    return BoardFacts(config.memory, config.cpus, windows)


def build(
    config: MachineConfig,
    plan: BootPlan,
    console: ByteSink,
    console_input: ByteSource | None,
    fittings: Sequence[Fitting] = (),
    observers: Callable[[int], Observer | None] | None = None,
) -> Parts:
    """Everything but running. What it opened is closed again where it raises, the fittings included.

    `observers` gives each vCPU what its loop calls after every exit.
    """
    with ExitStack() as stack:
        for device in {id(f.device): f.device for f in fittings}.values():
            stack.callback(device.close)
        parts = _build(config, plan, console, console_input, fittings, observers)
        stack.pop_all()  # from now on the board closes them
    return parts


def _build(
    config: MachineConfig,
    plan: BootPlan,
    console: ByteSink,
    console_input: ByteSource | None,
    fittings: Sequence[Fitting],
    observers: Callable[[int], Observer | None] | None,
) -> Parts:
    memory, stores = _make_memory(config, plan)
    parts = Parts(config, memory, stores, replaced_controllers(fittings))
    try:
        for chunk in plan.chunks + _bios_tables(config, plan):
            memory.write(chunk.gpa, chunk.data)
        parts.board = _make_board(config, plan, parts, console, console_input, fittings)
        parts.loops = _make_loops(config, parts, observers)
        parts.stop.listen(parts.kick)
        install(parts, config.engine)
        parts.vcpus[0].set_state(plan.state)
    except BaseException:
        if parts.has_board:
            parts.board.disown(f.device for f in fittings)  # `build` closes these
        parts.close()
        raise
    return parts


def _bios_tables(config: MachineConfig, plan: BootPlan) -> tuple[Chunk, ...]:
    """ACPI and MP tables, where no firmware makes its own."""
    if not plan.needs_bios_tables:
        return ()
    from minihv.boot.tables import bios_tables

    return bios_tables(platform_facts(config.cpus), board_facts(config).rsdp, plan.chunks)


def _make_memory(config: MachineConfig, plan: BootPlan) -> tuple[GuestMemory, list[HostRam]]:
    """RAM in one backing store, each ROM in its own; RAM does not show where a ROM or video memory is."""
    holes = [(LEGACY_WINDOW_START, LEGACY_WINDOW_END), *((rom.gpa, rom.end) for rom in plan.roms)]
    ram = HostRam(config.memory)
    stores = [ram]
    try:
        regions = [
            Region(gpa, size, ram.piece(offset, size), False, "ram")
            for gpa, offset, size in ram_layout(config.memory, holes)
        ]
        for rom in plan.roms:
            store = HostRam(rom.size, "minihv-rom")
            stores.append(store)
            store.view[: len(rom.data)] = rom.data
            regions.append(Region(rom.gpa, rom.size, store.piece(0, rom.size), True, rom.name))
        return GuestMemory(regions), stores
    except BaseException:
        for store in stores:
            store.close()
        raise


def _make_board(
    config: MachineConfig,
    plan: BootPlan,
    parts: Parts,
    console: ByteSink,
    console_input: ByteSource | None,
    fittings: Sequence[Fitting],
) -> Board:
    wiring = Wiring(
        console=console,
        console_input=console_input,
        line=parts.lines.line,
        stop=lambda reason, status: parts.stop(outcome(reason, status)),
        wall_clock=time.time,
        clock=parts.clock,
        cpus=config.cpus,
        ram_low=min(config.memory, RAM_HOLE_START),
        ram_high=max(config.memory - RAM_HOLE_START, 0),
        disk=plan.disk,
        without=parts.without,
    )
    board = make_board(config.board, wiring)
    for fitting in fittings:
        _refuse_memory(fitting, parts.memory)
        board.attach(fitting)
    return board


def _refuse_memory(fitting: Fitting, memory: GuestMemory) -> None:
    """Where RAM or ROM answers, a device would never be asked."""
    end = fitting.start + fitting.size
    for region in memory.regions if fitting.space == "mmio" else ():
        if fitting.start < region.end and region.gpa < end:
            raise UsageError(
                f"mmio window {fitting.name} ({fitting.start:#x}..{end - 1:#x}) overlaps {region.name} "
                f"({region.gpa:#x}..{region.end - 1:#x}); move it or use less memory"
            )


def _make_loops(
    config: MachineConfig, parts: Parts, observers: Callable[[int], Observer | None] | None
) -> list[VcpuLoop]:
    lock = threading.Lock() if config.cpus > 1 else None
    budget = _exit_budget(config.max_exits) if config.max_exits is not None else None
    board = parts.board
    return [
        VcpuLoop(
            index,
            board.ports,
            board.mmio,
            parts.stop,
            parts.idle,
            lock,
            budget,
            observers(index) if observers is not None else None,
            parts.pause,
        )
        for index in range(config.cpus)
    ]


def _exit_budget(limit: int) -> Callable[[], int]:
    """Counts the exits of all vCPUs together: taking the next number of a `count` is atomic."""
    left_over = count(limit - 1, -1)
    return lambda: next(left_over)
