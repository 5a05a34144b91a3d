"""Config + BootPlan -> a machine that is ready to run: memory, engine, vCPUs, devices."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, cast

from minihv.boot.plan import BoardFacts, BootPlan, Chunk
from minihv.engine.select import open_engine
from minihv.errors import UsageError
from minihv.host.ram import HostRam
from minihv.interfaces import ByteSink, ByteSource, Engine, EngineConfig, IrqLine, TurnVcpu, Vcpu
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
from minihv.machine.clock import TSC_HZ, InstructionClock, RealClock
from minihv.machine.config import MachineConfig
from minihv.machine.idle import IdleRounds
from minihv.machine.loop import Observer, VcpuLoop
from minihv.machine.outcome import outcome
from minihv.machine.stop import Stop
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


class Parts:
    """A built machine. `close` gives back everything, in the reverse order of building."""

    def __init__(
        self,
        memory: GuestMemory,
        stores: list[HostRam],
        stop: Stop,
        idle: IdleRounds,
        clock: RealClock | InstructionClock,
    ) -> None:
        self.memory = memory
        self.stores = stores
        self.stop = stop
        self.idle = idle
        self.engine: Engine | None = None
        self.clock = clock
        self.turns: Turns | None = None
        self.passed_over: list[str] = []
        self.vcpus: list[Vcpu] = []
        self.loops: list[VcpuLoop] = []
        self.board: Board | None = None

    def close(self) -> None:
        """Devices, engine (with its vCPUs), memory, whatever of them raises; harmless when done twice."""
        with ExitStack() as stack:
            while self.stores:
                stack.callback(self.stores.pop().close)
            stack.callback(self.memory.release)
            if self.engine is not None:
                stack.callback(self.engine.close)
            if self.board is not None:
                stack.callback(self.board.close)


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
    observe: Observer | None = None,
) -> Parts:
    """Everything but running. What it opened is closed again where it raises, the fittings included."""
    with ExitStack() as stack:
        for device in {id(f.device): f.device for f in fittings}.values():
            stack.callback(device.close)
        parts = _build(config, plan, console, console_input, fittings, observe)
        stack.pop_all()  # from now on the board closes them
    return parts


def _build(
    config: MachineConfig,
    plan: BootPlan,
    console: ByteSink,
    console_input: ByteSource | None,
    fittings: Sequence[Fitting],
    observe: Observer | None,
) -> Parts:
    memory, stores = _make_memory(config, plan)
    clock = InstructionClock() if config.clock == "instructions" else RealClock()
    parts = Parts(memory, stores, Stop(), IdleRounds(config.cpus), clock)
    try:
        for chunk in plan.chunks + _bios_tables(config, plan):
            memory.write(chunk.gpa, chunk.data)
        engine_config = EngineConfig(
            config.cpus, config.irqchip, replaced_controllers(fittings), parts.clock, TSC_HZ
        )
        parts.engine, parts.passed_over = open_engine(config.engine, memory, engine_config)
        parts.vcpus = [parts.engine.create_vcpu(index) for index in range(config.cpus)]
        _check_clock(config, parts)
        parts.vcpus[0].set_state(plan.state)
        parts.board = _make_board(config, plan, parts, console, console_input, fittings)
        parts.loops = _make_loops(config, parts, parts.board, observe)
        if not parts.engine.traits.parallel:
            for loop in parts.loops:
                loop.takes_turns = True
            parts.turns = Turns(parts.loops, parts.board, parts.clock, parts.stop)
        for vcpu in parts.vcpus:
            parts.stop.listen(vcpu.kick)
    except BaseException:
        parts.close()
        raise
    return parts


def _check_clock(config: MachineConfig, parts: Parts) -> None:
    """Counted time needs an engine that counts. Raises UsageError."""
    engine, clock = parts.engine, parts.clock
    assert engine is not None
    if isinstance(clock, InstructionClock):
        if not engine.traits.counts_instructions:
            raise UsageError(
                f"expected an engine that counts instructions for --clock instructions, found {engine.name}; "
                "use --engine interpret"
            )
        vcpus = parts.vcpus
        clock.executed = lambda: sum(vcpu.instructions for vcpu in vcpus)


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
    engine = parts.engine
    assert engine is not None
    provided = engine.traits.provides
    chips = _software_chips(config, parts)

    def line(gsi: int) -> IrqLine:
        if chips is not None:
            return chips.line(gsi)
        return engine.irq_line(gsi) if "pic" in provided or "ioapic" in provided else _unconnected

    wiring = Wiring(
        console=console,
        console_input=console_input,
        line=line,
        stop=lambda reason, status: parts.stop(outcome(reason, status)),
        wall_clock=time.time,
        clock=parts.clock,
        provided=provided,
        cpus=config.cpus,
        ram_low=min(config.memory, RAM_HOLE_START),
        ram_high=max(config.memory - RAM_HOLE_START, 0),
        disk=plan.disk,
        chips=chips,
        without=replaced_controllers(fittings),
    )
    board = make_board(config.board, wiring)
    for fitting in fittings:
        _refuse_memory(fitting, parts.memory)
        board.attach(fitting)
    return board


def _software_chips(config: MachineConfig, parts: Parts) -> "IrqChips | None":
    """PIC, PIT, IOAPIC and LAPICs as models, for vCPUs that have no others."""
    engine = parts.engine
    assert engine is not None
    if engine.traits.parallel:
        return None
    from minihv.devices.irqchips import IrqChips

    chips = IrqChips(config.cpus, parts.clock, TSC_HZ)
    for index, vcpu in enumerate(parts.vcpus):
        turn_vcpu = cast("TurnVcpu", vcpu)
        chips.connect(index, turn_vcpu, turn_vcpu.tsc)
    return chips


def _refuse_memory(fitting: Fitting, memory: GuestMemory) -> None:
    """Where RAM or ROM answers, a device would never be asked."""
    end = fitting.start + fitting.size
    for region in memory.regions if fitting.space == "mmio" else ():
        if fitting.start < region.end and region.gpa < end:
            raise UsageError(
                f"mmio window {fitting.name} ({fitting.start:#x}..{end - 1:#x}) overlaps {region.name} "
                f"({region.gpa:#x}..{region.end - 1:#x}); move it or use less memory"
            )


def _unconnected(level: bool, /) -> None:
    """The interrupt input of a machine without interrupt controllers."""


def _make_loops(
    config: MachineConfig, parts: Parts, board: Board, observe: Observer | None
) -> list[VcpuLoop]:
    lock = threading.Lock() if config.cpus > 1 else None
    budget = _exit_budget(config.max_exits) if config.max_exits is not None else None
    return [
        VcpuLoop(vcpu, board.ports, board.mmio, parts.stop, parts.idle, lock, budget, observe)
        for vcpu in parts.vcpus
    ]


def _exit_budget(limit: int) -> Callable[[], int]:
    """Counts the exits of all vCPUs together: taking the next number of a `count` is atomic."""
    left_over = count(limit - 1, -1)
    return lambda: next(left_over)
