"""Rescue: one instruction that an engine could not execute, executed by the interpreter on the vCPU's state.

Under PVM the host kernel emulates ring 0 and gives up at INT n, XGETBV, CMPXCHG16B and others (KVM API,
KVM_INTERNAL_ERROR_EMULATION). Nothing is lost then: the registers are readable, so another engine can take
the one step, and the vCPU goes on behind it.

Limit: the step is not atomic towards other vCPUs, which go on running meanwhile.
"""

from collections.abc import Callable
from typing import cast

from minihv.engine.select import open_engine
from minihv.exits import BudgetSpent, Exit, Fault, Halt, Shutdown
from minihv.interfaces import Engine, EngineConfig, TurnVcpu, Vcpu
from minihv.memory import GuestMemory
from minihv.x86.state import CpuState, Events, Segment

RESCUER = "interpret"
MSR_TSC = 0x10
_LEGACY_XSAVE = 512
_XSTATE_BV = slice(512, 520)


class Rescuer:
    """Takes single steps for one vCPU. The engine behind it is opened by the first one."""

    def __init__(self, memory: GuestMemory, cpus: int) -> None:
        self._memory = memory
        self._cpus = cpus
        self._engine: Engine | None = None
        self._helper: TurnVcpu | None = None

    def __call__(self, vcpu: Vcpu, fault: Fault, answer: Callable[[Exit], bytes | None]) -> str | None:
        """Execute the instruction that `fault` is about. Its text where that worked, else None.

        `answer` handles the exits that the instruction itself needs. A triple fault on the way is handed to
        `answer`, too. Raises EngineUnavailable where there is no interpreter.
        """
        helper = self._ready()
        before = vcpu.get_state()
        before.events = _without_exception(before.events)
        helper.set_state(before)
        base = helper.get_state()
        exit: Exit | None = helper.run(1)
        while exit is not None and not isinstance(exit, BudgetSpent | Halt):
            if isinstance(exit, Fault):
                return None
            data = answer(exit)
            if isinstance(exit, Shutdown):
                break
            if data is not None:
                helper.complete(data)
            exit = helper.finish()
        vcpu.set_state(_changes(before, base, helper.get_state()))
        return _words(fault, before)

    def _ready(self) -> TurnVcpu:
        if self._helper is None:
            self._engine, _ = open_engine(RESCUER, self._memory, EngineConfig(self._cpus))
            self._helper = cast("TurnVcpu", self._engine.create_vcpu(0))
        return self._helper

    def close(self) -> None:
        """Give the guest's memory back; harmless when done twice."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._helper = None


def _without_exception(events: Events) -> Events:
    """KVM queues #UD beside its error; the instruction is no undefined one, so it must not arrive."""
    events.exception, events.error_code, events.payload = None, None, None
    events.exception_pending = False
    return events


def _changes(before: CpuState, base: CpuState, after: CpuState) -> CpuState:
    """`after`, with what the helper cannot know taken from `before`: it has seen it only as `base`."""
    after.apic_base, after.lapic = before.apic_base, b""
    after.msrs = {
        index: value
        for index, value in after.msrs.items()
        if index != MSR_TSC and base.msrs.get(index) != value
    }
    if after.xsave != base.xsave or after.xcr0 != base.xcr0:
        after.xsave = _merged_xsave(before.xsave, after.xsave)
    else:
        after.xsave = b""
    if after.xcr0 == base.xcr0:
        after.xcr0 = before.xcr0
    return after


def _merged_xsave(before: bytes, after: bytes) -> bytes:
    """x87 and SSE from `after`; everything else, AVX above all, as it was."""
    present = int.from_bytes(before[_XSTATE_BV], "little") | 3
    rest = before[_XSTATE_BV.stop :]
    return after[:_LEGACY_XSAVE] + present.to_bytes(8, "little") + rest


def _words(fault: Fault, state: CpuState) -> str:
    from minihv.x86.disasm import disassemble

    return disassemble(fault.instruction, state.rip, _bits(state.cs, state.efer))


def _bits(cs: Segment, efer: int) -> int:
    if cs.long and efer & 0x400:
        return 64
    return 32 if cs.big else 16
