"""One vCPU: the loop around KVM_RUN (KVM API 4.10 and 5, "The kvm_run structure")."""

import fcntl
import mmap
import os
import signal
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.engine.kvm.decode import decode
from minihv.engine.kvm.inject import Injector
from minihv.engine.kvm.site import AFTER, BEFORE, GPRS, CodeSite
from minihv.engine.kvm.state import StatePort
from minihv.engine.kvm.statsfd import StatsFd
from minihv.errors import GuestMemoryError, UsageError
from minihv.exits import (
    Exit,
    Fault,
    Halt,
    Hypercall,
    Idle,
    Interrupted,
    IoIn,
    IoOut,
    MmioRead,
    MmioWrite,
    MsrRead,
    MsrWrite,
)
from minihv.interfaces import ExactSite, InterruptSource, Site, Watchpoint
from minihv.x86.registers import DR7_LENGTHS, DR7_RESET, DR7_RW_ACCESS, DR7_RW_EXECUTE, DR7_RW_WRITE
from minihv.x86.state import SEGMENT_NAMES, CpuState, MpState

if TYPE_CHECKING:
    from minihv.engine.kvm.engine import KvmEngine

HYPERCALLS = (b"\x0f\x01\xc1", b"\x0f\x01\xd9")
"""VMCALL and VMMCALL."""

KICK_SIGNAL = signal.SIGURG
"""Blocked on vCPU threads except inside KVM_RUN (KVM_SET_SIGNAL_MASK), so it needs no handler and no
process-wide state; and its default action is to do nothing, so a stray one is harmless."""

# exit_reason, io.direction, io.size, io.port, io.count, io.data_offset and the synchronised RIP, in one
# call: offsets 8, 32, 33, 34, 36, 40 and 432 of struct kvm_run.
_HOT = struct.Struct("<8xI20xBBHIQ384xQ")
_MMIO_DATA = 40
_new_object = object.__new__
_REGS = 304
"""struct kvm_regs in the synchronised registers of struct kvm_run."""


class KvmVcpu:
    """Implements `minihv.interfaces.Vcpu`."""

    def __init__(self, engine: "KvmEngine", index: int, fd: int) -> None:
        self.index = index
        self.left_ns = 0
        self.instructions = 0
        self.fd = fd
        self._engine = engine
        self._kernel = engine.kernel
        try:
            self._map = mmap.mmap(fd, engine.kvm.vcpu_mmap_size)
        except BaseException:
            os.close(fd)
            raise
        self._run: Any = ffi.from_buffer("struct kvm_run *", self._map)
        self._run.kvm_valid_regs = abi.SYNC_X86_REGS
        self._answer: int | str = 0
        self._queued: Exit | None = None
        self._kicked = False
        self._probe = False
        self._noticed = False
        self._injector: Injector | None = None
        self._thread: int | None = None
        # Re-entrant: a signal handler may stop the machine while this very thread is in `kick`.
        self._thread_lock = threading.RLock()
        self._old_mask: set[int] = set()
        self._stats_fd = -1
        self._stats: StatsFd | None = None
        self.port = StatePort(
            self._kernel, fd, engine.msr_list, engine.xsave_size, engine.kernel_lapic, abi.EVENT_SMM
        )

    # Threads and kicks

    def attach_thread(self) -> None:
        """Make the calling thread the one that runs this vCPU."""
        self._old_mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, {KICK_SIGNAL}))
        allowed = signal.pthread_sigmask(signal.SIG_BLOCK, ()) - {KICK_SIGNAL}
        mask = ffi.new("struct kvm_signal_mask *", {"len": 8})
        mask.sigset = list(sum(1 << s - 1 for s in allowed).to_bytes(8, "little"))
        self._kernel.ioctl(self.fd, abi.SET_SIGNAL_MASK, mask)
        self._open_stats()
        with self._thread_lock:
            self._thread = threading.get_ident()

    def detach_thread(self) -> None:
        """The calling thread will not run this vCPU any more; a kick after this waits for the next."""
        with self._thread_lock:
            self._thread = None
        self._drain()
        if self._kicked or self._probe:
            self._run.immediate_exit = 1
        signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)

    def kick(self) -> None:
        self._kicked = True
        self._wake()
        if self._injector is not None:
            self._injector.notice()

    def probe(self) -> None:
        """Make a `run` that sleeps in the kernel look whether it can ever wake up."""
        self._probe = True
        self._wake()

    def _wake(self) -> None:
        # immediate_exit for a thread that is on its way into KVM_RUN, the signal for one that is inside.
        # The lock keeps `close` from unmapping the structure under our hands.
        with self._thread_lock:
            if self.fd < 0:
                return
            self._run.immediate_exit = 1
            if self._thread is not None:
                signal.pthread_kill(self._thread, KICK_SIGNAL)

    def _drain(self) -> None:
        self._run.immediate_exit = 0
        while signal.sigtimedwait({KICK_SIGNAL}, 0) is not None:
            pass  # the loop condition itself takes the signal

    # Running

    def run(self, budget: int | None = None) -> Exit:
        """Run until the guest needs the VMM. KVM counts no instructions: `budget` is not used."""
        if self._queued is not None:
            return self._take_queued()
        while True:
            if self._injector is not None and (stop := self._before_entry(self._injector)) is not None:
                return stop
            try:
                fcntl.ioctl(self.fd, abi.RUN)
            except InterruptedError:
                # exit_reason still holds an old reason: never decode after -1.
                self.left_ns = time.perf_counter_ns()
                stop = self._interrupted()
                if stop is None:
                    continue
                return stop
            except BlockingIOError:
                continue  # EAGAIN: an INIT or SIPI has just been taken (KVM API 4.38)
            except OSError as error:
                self.left_ns = time.perf_counter_ns()
                return self._run_failed(error)
            self.left_ns = time.perf_counter_ns()
            reason, direction, size, port, count, offset, rip = _HOT.unpack_from(self._map)
            if reason == abi.EXIT_IO:
                if direction:
                    # IoOut(...), without the call of a Python __init__: the most frequent exit of all.
                    out = _new_object(IoOut)
                    out.port, out.size, out.count, out.rip = port, size, count, rip
                    out.data = self._map[offset : offset + size * count]
                    return out
                self._answer = offset
                return IoIn(port, size, count, rip)
            if reason in abi.EXITS_TO_OFFER:
                continue
            return self._decode(reason, rip)

    # Interrupts from controllers in user space: `minihv.interfaces.InterruptTarget`

    @property
    def local_apic(self) -> InterruptSource | None:
        """The model that stands at the interrupt pin, where the kernel has none."""
        return self._injector.source if self._injector is not None else None

    @local_apic.setter
    def local_apic(self, source: InterruptSource | None) -> None:
        self._injector = None if source is None else Injector(self._kernel, self.fd, self._run, source)

    def notice(self) -> None:
        """From any thread: the interrupt source may have something."""
        if self._injector is not None:
            self._noticed = True
            self._injector.notice()
            if self._thread != threading.get_ident():
                self._wake()

    def deliver_init(self) -> None:
        """Only this vCPU itself can have sent it, from an exit: it starts anew (SDM Vol. 3A, 9.4.2)."""
        self.port.store(CpuState())

    def deliver_sipi(self, vector: int) -> None:
        """Nobody waits for one: the only vCPU is the one that started."""

    def deliver_nmi(self) -> None:
        """KVM_NMI: taken at the next entry."""
        self._kernel.ioctl(self.fd, abi.NMI)
        self._wake()

    def _before_entry(self, injector: Injector) -> Exit | None:
        """Sleep through HLT, then offer what the controllers have. Interrupted: somebody kicked a sleeper."""
        while injector.halted and injector.asleep():
            if self._kicked:
                self._kicked = False
                self._drain()
                self.left_ns = time.perf_counter_ns()
                return Interrupted()
        injector.halted = False
        injector.offer()
        return None

    def _decode(self, reason: int, rip: int) -> Exit:
        stop = decode(self._run, reason, rip)
        if self._injector is not None and isinstance(stop, Halt):
            # Not ready, with interrupts on: KVM has one in hand, which ends the HLT at the next entry.
            self._injector.halted = stop.wakeable and bool(self._run.ready_for_interrupt_injection)
        if isinstance(stop, MmioRead):
            self._answer = _MMIO_DATA
        elif isinstance(stop, MsrRead | MsrWrite):
            self._answer = "msr"
        elif isinstance(stop, Hypercall):
            self._answer = "hypercall"
        elif isinstance(stop, Fault) and not stop.instruction:
            stop.instruction = self._code(rip)
        return stop

    def _interrupted(self) -> Exit | None:
        """After EINTR: a kick, a host signal, or the question whether a sleeping vCPU can wake."""
        # The flags are looked at after draining: whoever sets one later also makes the next entry return.
        self._drain()
        kicked, self._kicked = self._kicked, False
        noticed, self._noticed = self._noticed, False
        if noticed and not kicked and not self._probe:
            return None
        probe, self._probe = self._probe, False
        if kicked or not probe:
            return Interrupted()
        state = self.port.mp_state()
        if state in (MpState.UNINITIALIZED, MpState.INIT_RECEIVED):
            return Idle(self.port.load_regs().rip)
        if state is MpState.HALTED:
            regs = self.port.load_regs()
            if not regs.rflags & 0x200:
                return Idle(regs.rip)
        return self._hung() if self._engine.emulates_ring0 else None

    def _hung(self) -> Fault | None:
        """Under PVM KVM_RUN executes a VMCALL in ring 0 for ever, without getting behind it."""
        rip = self.port.load_regs().rip
        code = self._code(rip)[:3]
        if code not in HYPERCALLS:
            return None
        return Fault("internal-error", "PVM does not get behind this instruction", code, rip, rescuable=True)

    def _run_failed(self, error: OSError) -> Fault:
        rip = self.port.load_regs().rip
        message = f"KVM_RUN failed: {error.strerror} (errno {error.errno})"
        return Fault("internal-error", message, self._code(rip), rip)

    def blocked(self) -> bool:
        """True while the vCPU sleeps inside KVM_RUN (HLT, or waiting to be started).

        Also where the kernel does not tell (before Linux 5.18): then it has to be asked by a probe.
        """
        if not self._engine.has_stats:
            return True
        if self._stats_fd < 0:
            return False  # its thread has not come to `attach_thread` yet
        return self.stats().value("blocking") != 0

    def stats(self) -> StatsFd:
        """The kernel's counters of this vCPU; any thread may read them. Needs `has_stats`."""
        if self._stats is None:
            self._open_stats()
            self._stats = StatsFd(self._stats_fd)
        return self._stats

    def _open_stats(self) -> None:
        """While a thread is in KVM_RUN every other ioctl on the vCPU waits for it, for ever where the guest
        never exits: so its own thread opens the descriptor before the first run."""
        if self._stats_fd < 0 and self._engine.has_stats:
            self._stats_fd = self._kernel.ioctl(self.fd, abi.GET_STATS_FD)

    def complete(self, data: bytes) -> None:
        answer = self._answer
        if isinstance(answer, int):
            self._map[answer : answer + len(data)] = data
        elif answer == "msr":
            self._run.msr.error = 0 if data else 1
            self._run.msr.data = int.from_bytes(data, "little")
        else:
            self._run.hypercall.ret = int.from_bytes(data, "little")

    # State

    def _finish_exit(self) -> None:
        """RIP and the destination of a read move only at the next entry: enter without running.

        Finishing may itself need another exit (the second half of a wide MMIO access); it is kept for
        the next `run`.
        """
        if self._queued is not None:
            return
        self._run.immediate_exit = 1
        try:
            fcntl.ioctl(self.fd, abi.RUN)
        except OSError:
            # EINTR: done. EAGAIN: it waits to be started. Any other error is told by the next `run`; the
            # state is what it is.
            return
        finally:
            self._run.immediate_exit = 0
            if self._kicked or self._probe:
                self._run.immediate_exit = 1
        reason, direction, size, port, count, offset, rip = _HOT.unpack_from(self._map)
        if reason == abi.EXIT_IO:
            self._queued = (
                IoOut(port, size, count, self._map[offset : offset + size * count], rip)
                if direction
                else IoIn(port, size, count, rip)
            )
            self._answer = offset
        else:
            self._queued = self._decode(reason, rip)

    def _take_queued(self) -> Exit:
        stop, self._queued = self._queued, None
        assert stop is not None
        self.left_ns = time.perf_counter_ns()
        return stop

    def finish(self) -> Exit | None:
        self._finish_exit()
        return None if self._queued is None else self._take_queued()

    def get_state(self) -> CpuState:
        self._finish_exit()
        return self.port.load()

    def set_state(self, state: CpuState) -> None:
        self.port.store(state)
        self._run.cr8 = state.cr8  # without a LAPIC in the kernel every entry takes CR8 from here

    def debug(
        self,
        single_step: bool,
        breakpoints: tuple[int, ...] = (),
        watchpoints: tuple[Watchpoint, ...] = (),
    ) -> None:
        """KVM_SET_GUEST_DEBUG (KVM API 4.60): DR0..DR3, breakpoints first. Raises UsageError for
        watchpoints under PVM: its emulator, which executes all of ring 0, never looks at them."""
        asked = len(breakpoints) + len(watchpoints)
        if asked > 4:
            raise ValueError(f"the processor has four breakpoint registers, {asked} asked for")
        if watchpoints and self._engine.emulates_ring0:
            raise UsageError(
                "expected a KVM with data watchpoints, found PVM, whose emulator has none; "
                "use --engine interpret"
            )
        request = ffi.new("struct kvm_guest_debug *")
        if single_step:
            request.control |= abi.GUESTDBG_ENABLE | abi.GUESTDBG_SINGLESTEP
        if asked:
            request.control |= abi.GUESTDBG_ENABLE | abi.GUESTDBG_USE_HW_BP
            request.debugreg[7] = DR7_RESET
            rows = [(address, DR7_RW_EXECUTE, 1) for address in breakpoints]
            rows += [(w.address, DR7_RW_ACCESS if w.reads else DR7_RW_WRITE, w.length) for w in watchpoints]
            for number, (address, kind, length) in enumerate(rows):
                request.debugreg[number] = address
                fields = DR7_LENGTHS.index(length) << 2 | kind  # LENn, R/Wn (SDM Vol. 3B, 18.2.4)
                request.debugreg[7] |= 2 << 2 * number | fields << 16 + 4 * number  # 2: Gn
        self._kernel.ioctl(self.fd, abi.SET_GUEST_DEBUG, request)

    # Where an exit came from

    def site(self, exit: Exit, /) -> Site:
        rip = getattr(exit, "rip", 0)
        sregs = self.port.load_sregs()
        bits = 64 if sregs.cs.l and sregs.efer & 0x400 else 32 if sregs.cs.db else 16
        linear = (sregs.cs.base + rip) & (0xFFFFFFFFFFFFFFFF if bits == 64 else 0xFFFFFFFF)
        if isinstance(exit, IoOut):
            write, size, target = "port", exit.size, exit.port
        elif isinstance(exit, MmioWrite):
            write, size, target = "mmio", len(exit.data), exit.gpa
        else:
            return ExactSite(linear - 1 if isinstance(exit, Halt) else linear)  # KVM steps over HLT first
        before = self._code_before(linear)
        return CodeSite(
            linear,
            before + self._read_linear(linear, AFTER),
            len(before),
            bits,
            write,
            size,
            target,
            self._engine.emulates_ring0,
            self._map[_REGS : _REGS + GPRS.size],
            tuple(getattr(sregs, name).base for name in SEGMENT_NAMES),
        )

    def _code_before(self, linear: int) -> bytes:
        """Up to BEFORE bytes that end at `linear`; fewer where the page before cannot be read."""
        for size in (BEFORE, linear % 4096):
            code = self._read_linear(linear - size, size) if 0 < size <= linear else b""
            if len(code) == size:
                return code
        return b""

    def _code(self, rip: int) -> bytes:
        sregs = self.port.load_sregs()
        return self._read_linear((sregs.cs.base + rip) & 0xFFFFFFFFFFFFFFFF, 15)

    def _read_linear(self, linear: int, size: int) -> bytes:
        """Up to `size` bytes at a linear address; fewer where a page is not mapped or not RAM."""
        memory = self._engine.memory
        data = b""
        while len(data) < size:
            at = linear + len(data)
            part = min(size - len(data), 4096 - at % 4096)
            gpa = self.port.translate(at)
            if gpa is None:
                break
            try:
                data += memory.read(gpa, part)
            except GuestMemoryError:
                break
        return data

    def close(self) -> None:
        """Close what belongs to the vCPU; harmless when done twice."""
        with self._thread_lock:
            if self.fd < 0:
                return
            fd, self.fd = self.fd, -1
            self._thread = None
            ffi.release(self._run)
            self._map.close()
        if self._stats is not None:
            self._stats.close()
        elif self._stats_fd >= 0:
            os.close(self._stats_fd)
        self._stats_fd = -1
        os.close(fd)
