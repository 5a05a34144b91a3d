"""struct kvm_run -> Exit, for every exit reason except port I/O, which `vcpu` decodes on its hot path.

The functions take the mapped structure and RIP, so that a test can feed them made-up exits.
"""

from collections.abc import Callable
from typing import Any

from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.exits import (
    DebugStop,
    Exit,
    Fault,
    Halt,
    Hypercall,
    MmioRead,
    MmioWrite,
    MsrRead,
    MsrWrite,
    Shutdown,
    SystemEvent,
    SystemEventKind,
)


def _mmio(run: Any, rip: int) -> Exit:
    mmio = run.mmio
    if mmio.is_write:
        return MmioWrite(mmio.phys_addr, bytes(mmio.data[0 : mmio.len]), rip)
    return MmioRead(mmio.phys_addr, mmio.len, rip)


def _halt(run: Any, rip: int) -> Exit:
    return Halt(wakeable=bool(run.if_flag), rip=rip)


def _shutdown(run: Any, rip: int) -> Exit:
    return Shutdown(rip)


def _debug(run: Any, rip: int) -> Exit:
    return DebugStop(run.debug.dr6, rip)  # debug.pc is the linear address, not the offset in CS


def _hypercall(run: Any, rip: int) -> Exit:
    return Hypercall(run.hypercall.nr, tuple(run.hypercall.args), rip)


def _msr_reason(run: Any) -> str:
    return abi.MSR_EXIT_REASONS.get(run.msr.reason, f"reason {run.msr.reason}")


def _rdmsr(run: Any, rip: int) -> Exit:
    return MsrRead(run.msr.index, _msr_reason(run), rip)


def _wrmsr(run: Any, rip: int) -> Exit:
    return MsrWrite(run.msr.index, run.msr.data, _msr_reason(run), rip)


def _system_event(run: Any, rip: int) -> Exit:
    kinds = {
        abi.SYSTEM_EVENT_SHUTDOWN: SystemEventKind.POWER_OFF,
        abi.SYSTEM_EVENT_RESET: SystemEventKind.RESET,
        abi.SYSTEM_EVENT_CRASH: SystemEventKind.CRASH,
    }
    kind = run.system_event.type
    return SystemEvent(kinds.get(kind, SystemEventKind.OTHER), kind, rip)


def _fail_entry(run: Any, rip: int) -> Exit:
    code = run.fail_entry.hardware_entry_failure_reason
    message = f"the processor refused to enter the guest (hardware reason {code:#x}): its state is not valid"
    return Fault("fail-entry", message, b"", rip)


def _internal_error(run: Any, rip: int) -> Exit:
    suberror = run.internal.suberror
    what = abi.INTERNAL_ERRORS.get(suberror, f"suberror {suberror}")
    code = b""
    if suberror == abi.INTERNAL_ERROR_EMULATION:
        failure = run.emulation
        if failure.ndata >= 3 and failure.flags & abi.EMULATION_FLAG_BYTES:
            code = bytes(failure.insn_bytes[0 : min(failure.insn_size, 15)])
    rescuable = suberror == abi.INTERNAL_ERROR_EMULATION
    return Fault("internal-error", f"KVM internal error: {what}", code, rip, rescuable)


def _unknown(run: Any, rip: int) -> Exit:
    code = run.hw.hardware_exit_reason
    return Fault("unknown-exit", f"KVM does not know the hardware exit reason {code:#x}", b"", rip)


DECODERS: dict[int, Callable[[Any, int], Exit]] = {
    abi.EXIT_UNKNOWN: _unknown,
    abi.EXIT_HYPERCALL: _hypercall,
    abi.EXIT_DEBUG: _debug,
    abi.EXIT_HLT: _halt,
    abi.EXIT_MMIO: _mmio,
    abi.EXIT_SHUTDOWN: _shutdown,
    abi.EXIT_FAIL_ENTRY: _fail_entry,
    abi.EXIT_INTERNAL_ERROR: _internal_error,
    abi.EXIT_SYSTEM_EVENT: _system_event,
    abi.EXIT_X86_RDMSR: _rdmsr,
    abi.EXIT_X86_WRMSR: _wrmsr,
}


def decode(run: Any, reason: int, rip: int) -> Exit:
    """The Exit for a struct kvm_run that KVM_RUN has just returned with success."""
    decoder = DECODERS.get(reason)
    if decoder is None:
        name = abi.EXIT_NAMES.get(reason, "no known name")
        message = f"KVM came back with exit reason {reason} ({name}), which minihv does not handle"
        return Fault("unknown-exit", message, b"", rip)
    return decoder(run, rip)


def new_run() -> Any:
    """A zeroed struct kvm_run, for tests."""
    return ffi.new("struct kvm_run *")
