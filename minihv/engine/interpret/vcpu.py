"""The run loop: blocks, faults, events, single-step, and the exits to the VMM."""

import time
from collections.abc import Iterator
from itertools import islice
from operator import length_hint

from minihv.engine.interpret import convert, debug, interrupts, msrs
from minihv.engine.interpret.blocks import Block, Blocks
from minihv.engine.interpret.cpu import CS, M32, Cpu
from minihv.engine.interpret.faults import BePrecise, BlockDied, DebugFault, GuestFault, NeedExit, TripleFault
from minihv.engine.interpret.mmu import Mmu
from minihv.engine.interpret.physical import Physical
from minihv.engine.interpret.reset import power_on
from minihv.engine.interpret.site import Op
from minihv.engine.interpret.space import Space
from minihv.engine.interpret.table import Table
from minihv.exits import BudgetSpent, DebugStop, Exit, Halt, Idle, Interrupted, IoOut, MmioWrite, Shutdown
from minihv.interfaces import ExactSite, InterruptSource, Watchpoint
from minihv.x86.registers import DR6_BS, RFLAGS_IF, RFLAGS_RF, RFLAGS_TF
from minihv.x86.state import CpuState

_UNLIMITED = 1 << 62


class InterpretVcpu:
    """One interpreted vCPU: `interfaces.Vcpu` and `interfaces.InterruptTarget`."""

    def __init__(self, index: int, physical: Physical, table: Table, amd: bool) -> None:
        self.index = index
        self.left_ns = time.perf_counter_ns()
        self.cpu = cpu = Cpu(index)
        self._physical = physical
        cpu.mmu = Mmu(cpu, physical)
        cpu.user = Space(cpu, cpu.mmu, user=True)
        cpu.supervisor = Space(cpu, cpu.mmu, user=False)
        cpu.system = Space(cpu, cpu.mmu, user=False, implicit=True)
        cpu.amd = amd
        self.blocks = Blocks(cpu, physical, table, amd)
        physical.cpus.append(cpu)
        self._kicked = False
        self._limited = False
        """The present run has a budget."""
        self._step = False
        self._breakpoints: tuple[int, ...] = ()
        self._resume_at: int | None = None
        """Host breakpoint that was reported last: it must not stop the same instruction again."""
        self._replay = False
        """The instruction at RIP gave the last exit; it is executed again with the answers."""
        self._answered = True
        self._output = False
        """The open exit needs no answer."""
        self._want_precise = False
        """The instruction at RIP must be executed alone, with exact count (see `BePrecise`)."""
        self._sipi: int | None = None
        self._init = False
        self._nmis = 0
        """NMIs that arrived since the last look: see `_latch_nmi`."""
        power_on(cpu)

    # --- Vcpu ---------------------------------------------------------------------------------------

    @property
    def instructions(self) -> int:
        return self.cpu.retired

    @property
    def local_apic(self) -> InterruptSource | None:
        return self.cpu.local_apic

    @local_apic.setter
    def local_apic(self, source: InterruptSource | None) -> None:
        self.cpu.local_apic = source
        self.cpu.attention = True

    def run(self, budget: int | None = None) -> Exit:
        """Run until the guest needs the VMM, at most `budget` instructions (exactly counted); with a budget
        and other vCPUs, a PAUSE ends the run early.

        An instruction that takes a fault counts as one; rep instructions count once.
        """
        cpu = self.cpu
        left = _UNLIMITED if budget is None else budget
        self._limited = budget is not None
        cpu.base_retired += left - cpu.left
        cpu.left = left
        cpu.attention = True
        try:
            return self._run()
        finally:
            self.left_ns = time.perf_counter_ns()

    def complete(self, data: bytes) -> None:
        """Answer the exit that `run` returned."""
        if self._replay and not self._answered:
            self.cpu.answers.append(bytes(data))
            self._answered = True

    def kick(self) -> None:
        self._kicked = True
        self.cpu.attention = True

    def notice(self) -> None:
        self.cpu.attention = True

    def deliver_init(self) -> None:
        self._init = True
        self._sipi = None  # one that came before is void; one that comes after starts the processor
        self.cpu.attention = True

    def deliver_sipi(self, vector: int) -> None:
        if self.cpu.wait_sipi or self._init:  # elsewhere it is ignored (SDM Vol. 3A, 9.4.4)
            self._sipi = vector & 0xFF
        self.cpu.attention = True

    def deliver_nmi(self) -> None:
        self._nmis = min(self._nmis + 1, 2)
        self.cpu.attention = True

    def finish(self) -> Exit | None:
        """Complete the instruction of the last exit; another exit where it needs one for that."""
        if not self._replay:
            return None
        try:
            return self._finish_replay()
        finally:
            self.left_ns = time.perf_counter_ns()

    def get_state(self) -> CpuState:
        """The whole architectural state. An output or answered exit is completed first."""
        if self._replay:
            self._finish_replay()
        self._start_up()  # IPIs that were sent belong to the state
        if self._nmis:
            self._latch_nmi()
        return convert.get_state(self.cpu)

    def set_state(self, state: CpuState) -> None:
        """Load the whole state. What an open exit was about is given up; all caches are emptied."""
        self._replay = False
        self.cpu.answers.clear()
        self._physical.drop_all()
        convert.set_state(self.cpu, state)

    def site(self, exit: Exit) -> ExactSite:
        """Where `exit` came from: RIP is not moved before the instruction is done (but for HLT)."""
        del exit
        return ExactSite(self._linear(self.cpu.rip))

    def attach_thread(self) -> None:
        """Nothing to do: kicks are a flag."""

    def detach_thread(self) -> None:
        """Nothing to do."""

    @property
    def asleep(self) -> bool:
        """Halted or waiting for its start-up IPI, with nothing to wake it: `run` would do nothing."""
        cpu = self.cpu
        if cpu.wait_sipi:
            return self._sipi is None and not self._init
        if not cpu.halted or cpu.trap or self._init or self._nmis or (cpu.nmi_pending and not cpu.nmi_masked):
            return False
        source = cpu.local_apic
        return source is None or not cpu.flags & RFLAGS_IF or source.pending() is None

    def tsc(self) -> int:
        """The time-stamp counter as the guest sees it now."""
        return msrs.tsc(self.cpu)

    def debug(
        self,
        single_step: bool,
        breakpoints: tuple[int, ...] = (),
        watchpoints: tuple[Watchpoint, ...] = (),
    ) -> None:
        """Exact, also within string instructions, and any number. Watchpoints do not see what the processor
        does on its own: descriptor tables, and the stack on which it delivers an event."""
        self._step = single_step
        self._breakpoints = breakpoints
        cpu = self.cpu
        cpu.host_watch = [
            (w.address, w.length, w.reads, debug.HOST << min(len(breakpoints) + n, 3))
            for n, w in enumerate(watchpoints)
        ]
        cpu.host_hits = 0
        debug.arm(cpu)
        self._resume_at = None
        self.cpu.attention = True

    def close(self) -> None:
        self.cpu.spaces.clear()
        self.cpu.fast = {}
        self.cpu.mmu.flush()

    # --- the loop -----------------------------------------------------------------------------------

    def _linear(self, rip: int) -> int:
        cpu = self.cpu
        return rip if cpu.mode.bits == 64 else cpu.seg[CS].base + rip & M32

    def _run(self) -> Exit:
        cpu, blocks = self.cpu, self.blocks
        while True:
            block: Block | None = None
            ops: Iterator[Op] = iter(())
            try:
                if self._replay:
                    if not self._answered:
                        self.complete(b"")  # output, or an exit the VMM did not care to answer
                    exit = self._execute_single()
                    if exit is not None:
                        return exit
                while True:
                    if cpu.attention:
                        block = None
                        exit = self._attend()
                        if exit is not None:
                            return exit
                        continue
                    block = cpu.fast.get(cpu.rip)
                    if block is None:
                        if cpu.left <= 0:
                            return BudgetSpent(cpu.rip)
                        block = blocks.lookup()
                    left = cpu.left - block.count
                    if left < 0:
                        if cpu.left <= 0:
                            return BudgetSpent(cpu.rip)
                        part, block = block, None
                        self._part(part, cpu.left)
                        continue
                    cpu.left = left
                    cpu.rip = block.end
                    run = block.run
                    if run is not None:
                        run()
                        continue
                    ops = iter(block.ops)
                    for op in ops:
                        op()
            except GuestFault as fault:
                if block is not None:
                    self._rewind(block, self._position(block, ops), block.count)
                cpu.left -= 1
                exit = self._deliver(fault)
                if exit is not None:
                    return exit
            except NeedExit as need:
                if block is not None:
                    self._rewind(block, self._position(block, ops), block.count)
                return self._open(need)
            except BlockDied:
                assert block is not None
                self._rewind(block, self._position(block, ops), block.count)
            except BePrecise:
                assert block is not None
                self._rewind(block, self._position(block, ops), block.count)
                self._want_precise = True
                cpu.attention = True

    def _position(self, block: Block, ops: Iterator[Op]) -> int:
        """Number of the instruction of the running block that came to no end."""
        if block.run is not None:
            return self.cpu.pos
        return block.count - length_hint(ops) - 1

    def _rewind(self, block: Block, done: int, planned: int) -> None:
        """Instruction number `done` of the block did not happen, nor those after it, of `planned`."""
        self.cpu.rip = block.ips[done]
        self.cpu.left += planned - done

    def _open(self, need: NeedExit) -> Exit:
        """Leave for the VMM in the middle of the instruction at RIP."""
        self._replay = True
        self._answered = False
        exit = need.exit
        self._output = isinstance(exit, (IoOut, MmioWrite))
        exit.rip = self.cpu.rip  # type: ignore[union-attr]
        return exit

    def _part(self, block: Block, count: int) -> None:
        """Execute the first `count` instructions of a block. Raises what they raise, RIP and count exact."""
        cpu = self.cpu
        cpu.left -= count
        cpu.rip = block.ips[count]
        ops = iter(block.ops)
        total = block.count
        try:
            for op in islice(ops, count):
                op()
        except BlockDied:
            self._rewind(block, total - length_hint(ops) - 1, count)
        except BePrecise:
            self._rewind(block, total - length_hint(ops) - 1, count)
            self._want_precise = True
            cpu.attention = True
        except (GuestFault, NeedExit):
            self._rewind(block, total - length_hint(ops) - 1, count)
            raise

    def _execute_single(self) -> Exit | None:
        """Execute the one instruction at RIP, whatever the budget, with TF, RF and the host's step."""
        cpu = self.cpu
        traced = cpu.flags & RFLAGS_TF
        cpu.keep_rf = cpu.skip_trap = False
        cpu.asked = 0
        cpu.precise = True
        try:
            block = cpu.fast.get(cpu.rip)
            if block is None:
                block = self.blocks.lookup()
            self._part(block, 1)
        finally:
            cpu.precise = False
            cpu.attention = True
        self._replay = False
        cpu.answers.clear()
        if not cpu.keep_rf:
            cpu.flags &= ~RFLAGS_RF
        if traced and not cpu.skip_trap:
            cpu.trap |= DR6_BS
        stop = self._take_hits() | (DR6_BS if self._step else 0)
        return DebugStop(stop, cpu.rip) if stop else None

    def _take_hits(self) -> int:
        """DR6 bits of the host's watchpoints that were hit."""
        hits, self.cpu.host_hits = self.cpu.host_hits, 0
        return hits

    def _deliver(self, fault: GuestFault) -> Exit | None:
        """Take an exception at RIP."""
        cpu = self.cpu
        self._replay = False
        cpu.answers.clear()
        cpu.asked = 0
        cpu.trap = 0
        cpu.host_hits = 0
        cpu.skip_trap = False
        if fault.at is not None:
            cpu.rip = fault.at
        try:
            if isinstance(fault, DebugFault):
                debug.report(cpu, fault.dr6)
            interrupts.deliver_fault(cpu, fault)
        except TripleFault:
            return self._shut_down()
        return None

    def _start_up(self) -> None:
        """Take an INIT and a start-up IPI that have arrived."""
        cpu = self.cpu
        if self._init:
            self._init = False
            interrupts.take_init(cpu)
        if cpu.wait_sipi and self._sipi is not None:
            interrupts.take_sipi(cpu, self._sipi)
        self._sipi = None

    def _shut_down(self) -> Exit:
        self.cpu.shutdown = True
        self.cpu.attention = True
        return Shutdown(self.cpu.rip)

    # --- events -------------------------------------------------------------------------------------

    def _attend(self) -> Exit | None:
        """Look at everything that is not a plain next instruction. None: go on."""
        cpu = self.cpu
        if self._kicked:
            self._kicked = False
            return Interrupted()  # `run` sets attention again for whatever else there is
        if cpu.turn_over:
            cpu.turn_over = False
            if self._limited:
                return BudgetSpent(cpu.rip)
        cpu.attention = False
        self._start_up()
        if cpu.wait_sipi:
            cpu.attention = True
            return Idle(cpu.rip)
        if cpu.shutdown:
            cpu.attention = True
            return Shutdown(cpu.rip)
        if self._nmis:
            self._latch_nmi()

        shadow_ss, shadow_sti = cpu.shadow_mov_ss, cpu.shadow_sti
        cpu.shadow_sti = cpu.shadow_mov_ss = False
        shadow = shadow_ss or shadow_sti
        if shadow_ss:
            cpu.trap &= ~DR6_BS  # no single-step trap after MOV SS; a data breakpoint waits (18.3.1.4)
        try:
            if cpu.trap and not shadow_ss:
                cpu.halted = False  # HLT under TF: the trap wakes it
                bits, cpu.trap = cpu.trap, 0
                debug.report(cpu, bits)
                interrupts.deliver(cpu, 1, interrupts.EXCEPTION, None)
            if cpu.injected is not None:
                vector, external, error = cpu.injected
                cpu.injected, cpu.halted = None, False
                kind = interrupts.EXTERNAL if external else interrupts.EXCEPTION
                interrupts.deliver(cpu, vector, kind, error, not external)
            elif not shadow:
                self._interrupt()
        except TripleFault:
            return self._shut_down()
        if cpu.halted:
            cpu.attention = True
            return self._sleep()
        stepping = cpu.flags & (RFLAGS_TF | RFLAGS_RF) or self._step or cpu.dr[5] & 0xFF
        stepping = stepping or bool(self._breakpoints) or bool(cpu.host_watch)
        if not (stepping or shadow or self._want_precise):
            return None
        exit = self._single(shadow_ss)
        if exit is not None and not isinstance(exit, DebugStop):
            cpu.shadow_mov_ss, cpu.shadow_sti = shadow_ss, shadow_sti  # the instruction is still to come
        return exit

    def _latch_nmi(self) -> None:
        """One NMI can be pending (SDM Vol. 3A, 6.7.1). But of two that come one after the other, a processor
        that runs takes the first before the second; so, as vCPUs take turns, the second is kept until then.
        """
        cpu = self.cpu
        if cpu.nmi_masked:
            self._nmis, cpu.nmi_pending = 0, True
        elif not cpu.nmi_pending:
            self._nmis, cpu.nmi_pending = self._nmis - 1, True

    def _sleep(self) -> Exit:
        """HLT is reported once; being run again with nothing to wake up for is no act of the guest."""
        cpu = self.cpu
        wakeable = bool(cpu.flags & RFLAGS_IF)
        if not cpu.halt_reported:
            cpu.halt_reported = True
            return Halt(wakeable, cpu.rip)
        return Interrupted() if wakeable else Idle(cpu.rip)

    def _interrupt(self) -> None:
        """Take a pending NMI or interrupt, if it may be taken now."""
        cpu = self.cpu
        if cpu.accepted is not None:
            vector, cpu.accepted = cpu.accepted, None
            cpu.halted = False
            interrupts.deliver(cpu, vector, interrupts.EXTERNAL, None)
        if cpu.nmi_pending and not cpu.nmi_masked:
            cpu.nmi_pending = False
            cpu.nmi_masked = True
            cpu.halted = False
            cpu.attention = cpu.attention or bool(self._nmis)
            interrupts.deliver(cpu, 2, interrupts.EXTERNAL, None)
        source = cpu.local_apic
        if source is not None and cpu.flags & RFLAGS_IF and source.pending() is not None:
            vector = source.acknowledge()
            cpu.halted = False
            interrupts.deliver(cpu, vector, interrupts.EXTERNAL, None)

    def _single(self, shadow_ss: bool) -> Exit | None:
        """One instruction with all the checks that the fast loop leaves out."""
        cpu = self.cpu
        cpu.attention = True
        if cpu.left <= 0:
            return BudgetSpent(cpu.rip)
        self._want_precise = False
        if cpu.host_hits:  # by the delivery of an interrupt or exception
            return DebugStop(self._take_hits(), cpu.rip)
        lin = self._linear(cpu.rip)
        if self._breakpoints and lin in self._breakpoints and self._resume_at != lin:
            self._resume_at = lin
            return DebugStop(1 << min(self._breakpoints.index(lin), 3), cpu.rip)
        self._resume_at = None
        if not cpu.flags & RFLAGS_RF and not shadow_ss:
            hit = debug.instruction_breakpoints(cpu, lin)
            if hit:
                raise DebugFault(hit)
        return self._execute_single()

    def _finish_replay(self) -> Exit | None:
        """Complete the instruction of the open exit, if it was answered or needs no answer."""
        if not self._answered:
            if not self._output:
                return None
            self.complete(b"")
        try:
            return self._execute_single()
        except NeedExit as need:
            return self._open(need)
        except GuestFault as fault:
            return self._deliver(fault)
