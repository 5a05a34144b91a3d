"""Two engines in lock step: the same guest on two machines, compared after each instruction, or each exit.

Where both engines can execute one instruction alone, they do, and the states are compared after it. Else
(ring 3 under PVM) both run to their next exit. Engines that count instructions can also be compared every N;
where that shows a difference, both start again and the last N are stepped.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Self

from iced_x86 import Decoder, DecoderOptions, Instruction, Mnemonic, Register

from minihv.boot.plan import BootPlan
from minihv.errors import UsageError
from minihv.machine.config import MachineConfig
from minihv.machine.outcome import outcome
from minihv.verify.side import Event, Side, merged
from minihv.verify.statediff import Difference, differences
from minihv.verify.undefined_flags import undefined_flags
from minihv.x86.registers import RFLAGS_ARITHMETIC, RFLAGS_IF
from minihv.x86.state import CpuState

REP_STEPS = 1 << 20
"""Steps that a repeated string instruction may take."""
CATCH_UP = 3
"""Steps by which one engine may be behind the other after HLT and interrupts."""
TIME_PORTS = frozenset((0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71))
CONTROLLER_PORTS = frozenset((0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61))
CONTROLLERS = ((0xFEC00000, 0xFEC01000), (0xFEE00000, 0xFEE01000))
"""GPAs of IOAPIC and local APIC."""
_ADOPTING = {
    Mnemonic.RDTSC: "RDTSC", Mnemonic.RDTSCP: "RDTSC", Mnemonic.RDPMC: "RDPMC", Mnemonic.CPUID: "CPUID",
    Mnemonic.XGETBV: "XGETBV", Mnemonic.RDMSR: "RDMSR", Mnemonic.SGDT: "SGDT", Mnemonic.SIDT: "SIDT",
    Mnemonic.SLDT: "SLDT", Mnemonic.STR: "STR", Mnemonic.SMSW: "SMSW",
}  # fmt: skip
"""See `statediff.ADOPTED`."""


_LEAVING = frozenset((
    Mnemonic.IRET, Mnemonic.IRETD, Mnemonic.IRETQ, Mnemonic.SYSRET, Mnemonic.SYSRETQ, Mnemonic.SYSEXIT,
    Mnemonic.SYSEXITQ, Mnemonic.RETF,
))  # fmt: skip


class Verdict(NamedTuple):
    """How it went. `lines` tell the first difference; none: the engines agree."""

    lines: list[str]
    compared: int
    """Comparisons made."""
    by_exit: int
    """Of these, after an exit and not after one instruction."""
    adopted: Counter[str]
    """Results taken over from the first engine, because they may differ."""
    ended: str
    """How both machines ended, or why the comparison did."""


class Lockstep:
    """A context manager over two machines that differ in nothing but their engine."""

    def __init__(self, config: MachineConfig, plan: BootPlan, engines: tuple[str, str],
                 name: Callable[[int], str] = lambda address: "") -> None:  # fmt: skip
        """`name`: linear address -> symbol, or "". Raises UsageError for several CPUs."""
        if config.cpus != 1:
            raise UsageError(
                f"expected one CPU for a lock step, found {config.cpus}: in which order "
                "several run is the engine's own affair"
            )
        self._config, self._plan, self._engines, self._name = config, plan, engines, name
        self._sides: list[Side] = []
        self._adopted: Counter[str] = Counter()
        self._by_exit = 0
        self._now: CpuState | None = None
        """The first engine's state, where it is known already."""
        self._open()

    def _open(self) -> None:
        self._close()
        self._now = None
        for engine in self._engines:
            self._sides.append(Side(self._config.replace(engine=engine), self._plan))
        if self._config.clock == "real" and all(s.engine.traits.counts_instructions for s in self._sides):
            # With counted time their timers agree, too.
            self._config = self._config.replace(clock="instructions")
            self._open()

    def _close(self) -> None:
        while self._sides:
            self._sides.pop().close()

    @property
    def counts(self) -> bool:
        """Both engines count instructions, so time is counted, too, and a run can be repeated."""
        return self._config.clock == "instructions"

    def stop(self, reason: str) -> None:
        """From a signal handler: end both machines."""
        for side in self._sides:
            side.parts.stop(outcome(reason))
            side.vcpu.kick()

    def run(self, limit: int, every: int = 1, seconds: float | None = None) -> Verdict:
        """At most `limit` comparisons (with `every` above 1: of so many instructions each)."""
        if every > 1 and not self.counts:
            raise UsageError(
                "expected engines that both count instructions for --every above 1, found "
                f"{' and '.join(self._engines)}"
            )
        self._adopted.clear()
        self._by_exit = 0
        deadline = None if seconds is None else time.monotonic() + seconds
        return self._run(limit, every, deadline)

    def _run(self, limit: int, every: int, deadline: float | None) -> Verdict:
        first, second = self._sides
        lines = self._differs(first.state(), second.state(), None, [], [])
        compared = 0
        while not lines and compared < limit:
            if first.outcome is not None or second.outcome is not None:
                lines = self._ends()
                return self._verdict(lines, compared, self._how_it_ended())
            if deadline is not None and time.monotonic() > deadline:
                return self._verdict([], compared, "the time was over")
            lines = self._blocks(every) if every > 1 else self._one()
            compared += 1
            if lines and every > 1:
                return self._again(compared - 1, every, deadline)
        return self._verdict(lines, compared, "a difference" if lines else "the limit was reached")

    def _verdict(self, lines: list[str], compared: int, ended: str) -> Verdict:
        return Verdict(lines, compared, self._by_exit, self._adopted, ended)

    # --- one comparison -----------------------------------------------------------------------------

    def _blocks(self, every: int) -> list[str]:
        first, second = self._sides
        events = [merged(side.run(every)) for side in self._sides]
        return self._differs(first.state(), second.state(), None, events[0], events[1])

    def _again(self, agreed: int, every: int, deadline: float | None) -> Verdict:
        """From the start to the last comparison that agreed, and from there instruction by instruction."""
        self._open()
        for side in self._sides:
            if agreed:
                side.run(agreed * every)
        found = self._run(every + 1, 1, deadline)
        lines = found.lines or ["they differ after a block of instructions, but not after single ones"]
        return found._replace(lines=lines, compared=agreed * every + found.compared)

    def _one(self) -> list[str]:
        first, second = self._sides
        before, self._now = self._now or first.state(), None
        if not (first.can_step(before) and second.can_step(before)):
            self._by_exit += 1
            one, other = merged(first.run_to_exit()), merged(second.run_to_exit())
            return self._differs(first.state(), second.state(), before, one, other, loose=RFLAGS_ARITHMETIC)
        code = first.code(before)
        insn = _decode(before, code)
        if self._pvm and insn is not None and insn.mnemonic in _LEAVING:
            return self._leave(before)
        exits = [side.step() for side in self._sides]
        if insn is not None and (insn.has_rep_prefix or insn.has_repne_prefix) and insn.is_string_instruction:
            for side, events in zip(self._sides, exits, strict=True):
                self._finish_repetition(side, before.rip, events)
        a, b = first.state(), second.state()
        if insn is not None:
            self._adopt(before, insn, a, b)
        lines = self._differs(a, b, before, merged(exits[0]), merged(exits[1]), insn=insn)
        if not lines:
            self._now = a
        if lines and a.rip != b.rip and self._caught_up(a, b):
            return []
        return lines

    def _leave(self, before: CpuState) -> list[str]:
        """An instruction that may go to ring 3. Under PVM a step there would end in the guest's own handler,
        so the other engine tries first where it goes."""
        careful = next(side for side in self._sides if side.pvm)
        other = next((side for side in self._sides if not side.pvm), None)
        exits: dict[str, list[Event]] = {side.name: [] for side in self._sides}
        if other is not None:
            exits[other.name] += other.step()
        stays = other is not None and all(side.can_step(other.state()) for side in self._sides)
        if stays:
            exits[careful.name] += careful.step()
        else:
            self._by_exit += 1
            for side in self._sides:
                if side.outcome is None:
                    exits[side.name] += side.run_to_exit()
        first, second = self._sides
        a, b = first.state(), second.state()
        one, two = merged(exits[first.name]), merged(exits[second.name])
        lines = self._differs(a, b, before, one, two, loose=0 if stays else RFLAGS_ARITHMETIC)
        return [] if lines and stays and self._caught_up(a, b) else lines

    def _finish_repetition(self, side: Side, rip: int, events: list[Event]) -> None:
        for _ in range(REP_STEPS):
            if side.outcome is not None or side.state().rip != rip:
                return
            events += side.step()

    def _caught_up(self, a: CpuState, b: CpuState) -> bool:
        """An engine may come back from a step before or after the first instruction of a handler (KVM steps
        over the delivery of a fault, and HLT ends where it ends). So the one behind may take a few steps."""
        for behind, state, other in ((self._sides[1], b, a), (self._sides[0], a, b)):
            for _ in range(CATCH_UP):
                if behind.outcome is not None or not behind.can_step(behind.state()):
                    break
                behind.step()
                if not differences(behind.state(), other, 0, self._pvm):
                    self._adopted["a step more at a handler's entry"] += 1
                    return True
            if behind.outcome is not None:
                return False
            behind.vcpu.set_state(state)
        return False

    @property
    def _unlike(self) -> bool:
        """One engine brings interrupt controllers of its own: what a guest does to them is no exit there."""
        first, second = (side.engine.traits.provides for side in self._sides)
        return first != second

    @property
    def _pvm(self) -> bool:
        return any(side.pvm for side in self._sides)

    def _adopt(self, before: CpuState, insn: Instruction, a: CpuState, b: CpuState) -> None:
        """Where the results may differ, `b` and the second engine get those of `a`."""
        reason = self._may_differ(before, insn)
        if reason is None or a.rip != b.rip:
            return
        flags = (a.rflags ^ b.rflags) & RFLAGS_ARITHMETIC
        if a.gpr == b.gpr and (not flags or reason != "undefined flags"):
            return
        self._adopted[reason] += 1
        if reason != "undefined flags":
            b.gpr = list(a.gpr)
        b.rflags ^= flags
        self._sides[1].vcpu.set_state(b)

    def _may_differ(self, before: CpuState, insn: Instruction) -> str | None:
        known = _ADOPTING.get(insn.mnemonic)
        if known is not None:
            return known
        if insn.mnemonic == Mnemonic.IN:
            port = insn.immediate(1) if insn.op1_register == Register.NONE else before.gpr[2] & 0xFFFF
            return "IN from a timer" if port in TIME_PORTS else None
        if any(start <= _memory_address(insn, before) < end for start, end in CONTROLLERS):
            return "load from an interrupt controller"
        return "undefined flags" if undefined_flags(insn, before.gpr[1] & 0xFF) else None

    def _differs(
        self, a: CpuState, b: CpuState, before: CpuState | None, first: list[Event], second: list[Event],
        insn: Instruction | None = None, loose: int = 0,
    ) -> list[str]:  # fmt: skip
        if before is not None and insn is not None:
            loose |= undefined_flags(insn, before.gpr[1] & 0xFF)
        found = differences(a, b, loose, self._pvm)
        if self._unlike:
            first, second = ([one for one in part if not _at_controller(one)] for part in (first, second))
        if not found and first == second:
            return []
        lines = self._where(before, insn)
        lines += self._table(found)
        if self._unlike and (a.rflags ^ b.rflags) & RFLAGS_IF:
            lines.append(
                "  one of them has taken an interrupt here, the other not yet: see the limits in --help"
            )
        if first != second:
            names = self._engines
            lines.append(f"  exits: {names[0]} {_words(first)}; {names[1]} {_words(second)}")
        return lines

    # --- words --------------------------------------------------------------------------------------

    def _where(self, before: CpuState | None, insn: Instruction | None) -> list[str]:
        if before is None:
            return ["after a block of instructions, or before the first:"]
        linear = before.rip + (0 if before.cs.long else before.cs.base)
        symbol = self._name(linear)
        place = f"{linear:#x}" + (f" <{symbol}>" if symbol else "")
        if insn is None:
            return [f"between {place} and the next exit:"]
        from iced_x86 import Formatter, FormatterSyntax

        raw = self._sides[0].code(before)[: insn.len].hex(" ")
        return [f"{place}: {raw}  {Formatter(FormatterSyntax.INTEL).format(insn)}"]

    def _table(self, found: list[Difference]) -> list[str]:
        names = self._engines
        rows = [f"  {'':12}  {names[0]:>34}  {names[1]:>34}"] if found else []
        return rows + [f"  {d.name:12}  {d.first:#34x}  {d.second:#34x}" for d in found]

    def _how_it_ended(self) -> str:
        end = self._sides[0].outcome or self._sides[1].outcome
        assert end is not None
        return f"{end.reason}, status {end.status}" + (f": {end.detail}" if end.detail else "")

    def _ends(self) -> list[str]:
        """Outcomes, consoles and memory of two machines, one of which has ended."""
        first, second = self._sides
        lines = []
        ends = [side.outcome and (side.outcome.reason, side.outcome.status) for side in self._sides]
        if ends[0] != ends[1]:
            lines.append(f"outcome: {self._engines[0]} {ends[0]}, {self._engines[1]} {ends[1]}")
        if first.sink.data != second.sink.data:
            lines.append(f"console: {first.sink.data[-60:]!r} and {second.sink.data[-60:]!r}")
        return lines + self._memory()

    def _memory(self) -> list[str]:
        first, second = (side.parts.memory.regions for side in self._sides)
        for a, b in zip(first, second, strict=True):
            if a.view == b.view:
                continue
            for start in range(0, a.size, 4096):
                one, other = bytes(a.view[start : start + 4096]), bytes(b.view[start : start + 4096])
                place = next(
                    (n for n in range(min(4096, len(one))) if (one[n] ^ other[n]) & ~_LOOSE_BYTE), None
                )
                if place is not None:
                    pair = f"{one[place : place + 16].hex()} and {other[place : place + 16].hex()}"
                    return [f"memory at {a.gpa + start + place:#x}: {pair}"]
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


_LOOSE_BYTE = 0x60 | 0x01 | 0x02
"""Accessed and dirty bits of page tables, accessed and busy bits of descriptors: in no byte do they count."""


def _at_controller(one: Event) -> bool:
    if one.kind.startswith("Io"):
        return one.place in CONTROLLER_PORTS
    return one.kind.startswith("Mmio") and any(start <= one.place < end for start, end in CONTROLLERS)


def _decode(state: CpuState, code: bytes) -> Instruction | None:
    bits = 64 if state.cs.long else 32 if state.cs.big else 16
    insn = Decoder(bits, code, DecoderOptions.AMD, ip=state.rip).decode() if code else None
    return None if insn is None or insn.is_invalid else insn


def _memory_address(insn: Instruction, state: CpuState) -> int:
    """Offset of the explicit memory operand by the registers in `state`; -1 where there is none."""
    from minihv.verify.generate import GENERAL, has_memory

    if not has_memory(insn):
        return -1
    offset = insn.memory_displacement
    for register, scale in ((insn.memory_base, 1), (insn.memory_index, insn.memory_index_scale)):
        known = GENERAL.get(register)
        if known is not None:
            offset += (state.gpr[known[0]] & (1 << 8 * known[1]) - 1) * scale
    return offset & (1 << 64) - 1


def _words(events: list[Event]) -> str:
    return ", ".join(str(one) for one in events) or "none"
