"""The engine in its socket: opening one, wiring controllers to it, and taking a running guest to another.

A hop stops every vCPU at an instruction boundary, carries their states, the controllers and the timers over,
and goes on. Memory and devices stay where they are: no engine owns them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from minihv.engine.select import open_engine
from minihv.errors import HostError, UsageError
from minihv.interfaces import Engine, EngineConfig, InterruptTarget, IrqLine, TurnVcpu
from minihv.machine.clock import InstructionClock
from minihv.machine.lines import unconnected
from minihv.machine.turns import Turns
from minihv.x86.state import MpState

RFLAGS_IF = 0x200

if TYPE_CHECKING:
    from minihv.devices.irqchips import IrqChips
    from minihv.machine.build import Parts


def install(parts: "Parts", name: str) -> None:
    """Put the engine `name` ("auto": the first that works) under the board of `parts`, in its reset state.

    Raises what `open_engine` raises, and UsageError where the engine and the clock do not fit together.
    """
    config = parts.config
    engine_config = EngineConfig(config.cpus, config.irqchip, parts.without, parts.clock, parts.tsc_hz)
    engine, parts.passed_over = open_engine(name, parts.memory, engine_config)
    parts.engine = engine
    _check_clock(parts, engine)
    parts.vcpus = [engine.create_vcpu(index) for index in range(config.cpus)]
    parts.chips = _software_chips(parts, engine)
    parts.board.fit_controllers(engine.traits, parts.chips)
    parts.turns = None
    for loop, vcpu in zip(parts.loops, parts.vcpus, strict=True):
        loop.take(parts.tapped(engine, vcpu), takes_turns=not engine.traits.parallel)
        loop.sleeps = parts.chips is not None
        loop.rescue = parts.rescuer() if config.rescue and engine.traits.may_give_up else None
    if not engine.traits.parallel:
        parts.turns = Turns(parts.loops, parts.board, parts.clock, parts.stop, parts.pause)
    parts.lines.connect(_inputs(parts, engine))


def _check_clock(parts: "Parts", engine: Engine) -> None:
    """Counted time needs an engine that counts."""
    clock = parts.clock
    if isinstance(clock, InstructionClock):
        if not engine.traits.counts_instructions:
            raise UsageError(
                f"expected an engine that counts instructions for --clock instructions, found {engine.name}; "
                "use --engine interpret"
            )
        clock.executed = lambda: sum(loop.instructions for loop in parts.loops)


def _software_chips(parts: "Parts", engine: Engine) -> "IrqChips | None":
    """PIC, PIT, IOAPIC and LAPICs as models, for vCPUs that have no others."""
    if "lapic" in engine.traits.provides:
        return None
    from minihv.devices.irqchips import IrqChips

    chips = IrqChips(parts.config.cpus, parts.clock, parts.tsc_hz)
    for index, vcpu in enumerate(parts.vcpus):
        if engine.traits.parallel:
            chips.connect(index, cast("InterruptTarget", vcpu))
        else:
            turn_vcpu = cast("TurnVcpu", vcpu)
            chips.connect(index, turn_vcpu, turn_vcpu.tsc)
    return chips


def _inputs(parts: "Parts", engine: Engine) -> Callable[[int], IrqLine]:
    """Where the wires of the board end: GSI -> an input of whoever has the controllers."""
    if parts.chips is not None:
        return parts.chips.line
    if engine.traits.provides & {"pic", "ioapic"}:
        return engine.irq_line
    return lambda gsi: unconnected


def hop(parts: "Parts", name: str) -> None:
    """Take the guest from the engine it runs on to `name`. Its vCPUs must be at rest, all exits finished.

    Raises UsageError where the two have no interrupt controllers in common.
    """
    old, old_chips = parts.engine, parts.chips
    assert old is not None
    if parts.config.irqchip != "kernel":
        raise UsageError(
            "expected irqchip kernel for a change of engines: the others keep no state to take along"
        )
    states = [vcpu.get_state() for vcpu in parts.vcpus]
    controllers: Mapping[str, bytes] = old_chips.save() if old_chips is not None else old.controllers()
    if old_chips is not None:
        for state, lapic in zip(states, old_chips.save_lapics(), strict=True):
            state.lapic = lapic
    parts.past_counters = parts.counters()
    parts.tsc_hz = old.tsc_hz or parts.tsc_hz
    try:
        install(parts, name)
        assert parts.engine is not None
        for loop, state in zip(parts.loops, states, strict=True):
            loop.vcpu.set_state(state)
            loop.wakeable = state.mp_state is MpState.HALTED and bool(state.rflags & RFLAGS_IF)
        if parts.chips is not None:
            parts.chips.load(controllers, [state.lapic for state in states])
        else:
            parts.engine.set_controllers(controllers)
    except BaseException as error:
        if parts.engine is not None and parts.engine is not old:
            parts.engine.close()
        parts.engine, parts.chips = old, old_chips
        raise HostError(f"the guest could not go on with engine {name}: {error}") from error
    finally:
        if parts.engine is not old:
            old.close()
