"""--trace-insns: a line for every instruction that is executed, with what it changed.

    0        3 0x10000a     the_add                  add eax, ebx                     rax=0x3, +PF

vCPU, number of the instruction on it, linear address, symbol, instruction, changed registers and memory.
An instruction that faults says where the guest goes on; an interrupt has a line of its own.
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from minihv.errors import GuestMemoryError, HostError, UsageError
from minihv.exits import BudgetSpent, DebugStop, Exit, Interrupted, Shutdown
from minihv.interfaces import Engine, Vcpu, Watchpoint
from minihv.machine.build import Parts
from minihv.machine.recorders import Recorder
from minihv.machine.tap import Tap, must_count
from minihv.memory import GuestMemory
from minihv.report.model import Report
from minihv.x86.changes import changes
from minihv.x86.delivery import cpl, look_up
from minihv.x86.disasm import disassemble, stores
from minihv.x86.operands import MAX_LENGTH, finish_step, linear_rip, take_step
from minihv.x86.segments import code_bits
from minihv.x86.state import CpuState

PAUSE = b"\xf3\x90"
"""Where there are others, a software engine gives the turn away behind it."""

Namer = Callable[[int], str]


class InsnTrace(Recorder):
    """The trace file of one run; "-" is standard output. Raises HostError where the file refuses."""

    def __init__(self, path: str, make_namer: Callable[[], Namer]) -> None:
        self._path = path
        self._make_namer = make_namer
        self._traced: list[TracedVcpu] = []
        try:
            self._file: TextIO = sys.stdout if path == "-" else Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> HostError:
        return HostError(f"{self._path}: cannot be written: {error.strerror}; choose another trace file")

    def prepare(self, parts: Parts) -> None:
        words = Words(parts.memory, self._make_namer())

        def tap(engine: Engine, vcpu: Vcpu) -> Vcpu:
            must_count(engine, "--trace-insns")
            traced = TracedVcpu(vcpu, words, self.write, shares=parts.config.cpus > 1)
            self._traced.append(traced)
            return traced

        parts.tap(tap)

    def end(self, report: Report, now: int) -> Report:
        for vcpu in self._traced:
            vcpu.tell_last()
        return report

    def write(self, line: str) -> None:
        """Add a line."""
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        try:
            if self._path == "-":
                self._file.flush()
            else:
                self._file.close()
        except OSError as error:
            raise self._refused(error) from error


class Words:
    """Executed instructions in words."""

    def __init__(self, memory: GuestMemory, namer: Namer) -> None:
        self._memory = memory
        self._name = lru_cache(4096)(namer)
        self._disassemble = lru_cache(4096)(disassemble)
        self._stores = lru_cache(4096)(stores)

    def code(self, state: CpuState) -> bytes:
        """Up to 15 bytes at RIP, as far as they can be fetched."""
        address = linear_rip(state)
        room = min(0x1000 - address % 0x1000, MAX_LENGTH)
        data = self._fetch(state, address, room)
        return data + self._fetch(state, address + room, MAX_LENGTH - room) if len(data) == room else data

    def _fetch(self, state: CpuState, address: int, size: int) -> bytes:
        found = look_up(state, self.read, address, user=cpl(state) == 3, fetch=True) if size else None
        if found is None or found.gpa is None or found.failure is not None:
            return b""
        try:
            return self._memory.read(found.gpa, size)
        except GuestMemoryError:
            return b""

    def read(self, gpa: int, size: int) -> int:
        """RAM only: looking at a device would be an access."""
        if self._memory.find(gpa) is None:
            raise GuestMemoryError(gpa, size)
        return self._memory.read_int(gpa, size)

    def stored(self, code: bytes, before: CpuState) -> Callable[[CpuState], list[str]]:
        """Asked before the instruction; what comes back tells afterwards which memory changed."""
        if not self._stores(code, code_bits(before)):
            return lambda after: []
        step = take_step(before, self.read)
        return lambda after: [
            f"{operand.text}={operand.after:#x}"
            for operand in finish_step(step, after, self.read).operands
            if operand.gva is not None and operand.writes and operand.after is not None
        ]

    def line(self, vcpu: int, number: int, state: CpuState, text: str, found: list[str]) -> str:
        """One line of the trace for the place of `state`."""
        address = linear_rip(state)
        where = f"{vcpu} {number:8} {address:<#12x} {self._name(address):<24}"
        return f"{where} {text:<32} {', '.join(found)}".rstrip()

    def text(self, code: bytes, state: CpuState) -> str:
        """The instruction at RIP."""
        return self._disassemble(code, linear_rip(state), code_bits(state)) if code else "(cannot be fetched)"

    def place(self, state: CpuState) -> str:
        """RIP as address and symbol."""
        address = linear_rip(state)
        return f"{address:#x} {self._name(address)}".rstrip()


class TracedVcpu(Tap):
    """Lets `inner` execute one instruction after the other, and tells of each.

    The budgets, turns and exits are those of a run without it, and so is what the guest sees of its clock.
    """

    def __init__(self, inner: Vcpu, words: Words, write: Callable[[str], None], shares: bool) -> None:
        super().__init__(inner)
        self._words = words
        self._write = write
        self._shares = shares
        self._before: CpuState | None = None
        """The state before an instruction that has begun; it may leave for the VMM and go on later."""
        self._after: CpuState | None = None
        self._code = b""
        self._stored: Callable[[CpuState], list[str]] = lambda after: []
        inner.debug(True)

    def run(self, budget: int | None = None) -> Exit:
        done = 0
        while budget is None or done < budget:
            if self._before is None and (exit := self._begin()) is not None:
                return exit
            count = self.instructions
            exit = super().run(1)
            executed = self.instructions - count
            done += executed
            if executed:
                self._end(exit)
                if isinstance(exit, DebugStop) and self._shares and self._code.startswith(PAUSE):
                    return super().run(0)  # its turn is over
            elif isinstance(exit, Interrupted):
                self._before = None
            if not isinstance(exit, DebugStop | BudgetSpent):
                return exit
        return super().run(0)

    def _begin(self) -> Exit | None:
        """Let interrupts and traps that wait be taken, and look at what comes next."""
        exit = super().run(0)
        if not isinstance(exit, BudgetSpent):
            return exit
        state = self.inner.get_state()
        self._tell_event(state)
        self._before = state
        self._code = self._words.code(state)
        self._stored = self._words.stored(self._code, state)
        return None

    def _tell_event(self, state: CpuState) -> None:
        old = self._after
        if old is None or (old.rip, old.cs, old.gpr[4]) == (state.rip, state.cs, state.gpr[4]):
            return
        self._write(
            self._words.line(self.index, self.instructions, state, "-- interrupted", changes(old, state))
        )

    def _end(self, exit: Exit) -> None:
        """The instruction is executed, or has made an exception."""
        before, after = self._before, self.inner.get_state()
        assert before is not None
        found = changes(before, after)
        if isinstance(exit, DebugStop):
            found = self._stored(after) + found
        elif isinstance(exit, Shutdown):
            found.append("a triple fault")
        else:
            found.append(f"exception, goes on at {self._words.place(after)}")
        text = self._words.text(self._code, before)
        self._write(self._words.line(self.index, self.instructions, before, text, found))
        self._before, self._after = None, after

    def tell_last(self) -> None:
        """The machine has ended, maybe in the middle of an instruction."""
        if self._before is not None:
            text = self._words.text(self._code, self._before)
            line = self._words.line(
                self.index, self.instructions + 1, self._before, text, ["the machine ends here"]
            )
            self._write(line)
            self._before = None

    def finish(self) -> Exit | None:
        count = self.instructions
        exit = super().finish()
        if self.instructions != count and self._before is not None:
            self._end(exit or DebugStop(0, 0))
        return None if isinstance(exit, DebugStop) else exit

    def get_state(self) -> CpuState:
        count = self.instructions
        state = super().get_state()  # completes an exit that is open
        if self.instructions != count and self._before is not None:
            self._end(DebugStop(0, 0))
        return state

    def debug(
        self,
        single_step: bool,
        breakpoints: tuple[int, ...] = (),
        watchpoints: tuple[Watchpoint, ...] = (),
    ) -> None:
        raise UsageError("expected either --trace-insns or a debugger, found both; leave one out")
