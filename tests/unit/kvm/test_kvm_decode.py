"""Made-up struct kvm_run -> Exit: every reason, by number and in words. Needs no KVM."""

from typing import Any

import pytest

from minihv import exits as x
from minihv.engine.kvm import abi
from minihv.engine.kvm.cdata import ffi
from minihv.engine.kvm.decode import DECODERS, decode, new_run
from minihv.engine.kvm.site import GPRS
from minihv.engine.kvm.vcpu import _HOT, _MMIO_DATA, _REGS

RIP = 0x1234


def made(**members: dict[str, Any]) -> Any:
    """A kvm_run whose union member is filled in."""
    run = new_run()
    for member, fields in members.items():
        for field, value in fields.items():
            setattr(getattr(run, member), field, value)
    return run


MMIO_DATA = {"phys_addr": 0xFEC00010, "data": list(range(1, 9)), "len": 4}
HYPERCALL = {"nr": 12, "args": [1, 2, 3, 4, 5, 6]}

DELIVERY = "KVM internal error: an exit while an event was being delivered"

CASES: list[tuple[int, dict[str, dict[str, Any]], x.Exit]] = [
    (
        abi.EXIT_MMIO,
        {"mmio": {**MMIO_DATA, "is_write": 1}},
        x.MmioWrite(0xFEC00010, b"\x01\x02\x03\x04", RIP),
    ),
    (abi.EXIT_MMIO, {"mmio": {**MMIO_DATA, "is_write": 0}}, x.MmioRead(0xFEC00010, 4, RIP)),
    (
        abi.EXIT_MMIO,
        {"mmio": {**MMIO_DATA, "is_write": 1, "len": 8}},
        x.MmioWrite(0xFEC00010, bytes(range(1, 9)), RIP),
    ),
    (abi.EXIT_SHUTDOWN, {}, x.Shutdown(RIP)),
    (
        abi.EXIT_DEBUG,
        {"debug": {"dr6": 0xFFFF4FF0, "pc": 0xF1234, "dr7": 0x400}},
        x.DebugStop(0xFFFF4FF0, RIP),
    ),
    (abi.EXIT_HYPERCALL, {"hypercall": HYPERCALL}, x.Hypercall(12, (1, 2, 3, 4, 5, 6), RIP)),
    (abi.EXIT_X86_RDMSR, {"msr": {"index": 0x1A0, "reason": 2}}, x.MsrRead(0x1A0, "unknown", RIP)),
    (abi.EXIT_X86_RDMSR, {"msr": {"index": 1, "reason": 8}}, x.MsrRead(1, "reason 8", RIP)),
    (
        abi.EXIT_X86_WRMSR,
        {"msr": {"index": 0x1A0, "reason": 4, "data": 1 << 63}},
        x.MsrWrite(0x1A0, 1 << 63, "filtered", RIP),
    ),
    (
        abi.EXIT_SYSTEM_EVENT,
        {"system_event": {"type": 1}},
        x.SystemEvent(x.SystemEventKind.POWER_OFF, 1, RIP),
    ),
    (abi.EXIT_SYSTEM_EVENT, {"system_event": {"type": 2}}, x.SystemEvent(x.SystemEventKind.RESET, 2, RIP)),
    (abi.EXIT_SYSTEM_EVENT, {"system_event": {"type": 3}}, x.SystemEvent(x.SystemEventKind.CRASH, 3, RIP)),
    (abi.EXIT_SYSTEM_EVENT, {"system_event": {"type": 99}}, x.SystemEvent(x.SystemEventKind.OTHER, 99, RIP)),
    (
        abi.EXIT_FAIL_ENTRY,
        {"fail_entry": {"hardware_entry_failure_reason": 0x80000021}},
        x.Fault(
            "fail-entry",
            "the processor refused to enter the guest (hardware reason 0x80000021): its state is not valid",
            b"",
            RIP,
        ),
    ),
    (
        abi.EXIT_UNKNOWN,
        {"hw": {"hardware_exit_reason": 0x77}},
        x.Fault("unknown-exit", "KVM does not know the hardware exit reason 0x77", b"", RIP),
    ),
    (abi.EXIT_INTERNAL_ERROR, {"internal": {"suberror": 3}}, x.Fault("internal-error", DELIVERY, b"", RIP)),
    (
        abi.EXIT_INTERNAL_ERROR,
        {"internal": {"suberror": 77}},
        x.Fault("internal-error", "KVM internal error: suberror 77", b"", RIP),
    ),
]


@pytest.mark.parametrize(("reason", "members", "exit"), CASES)
def test_every_reason(reason: int, members: dict[str, dict[str, Any]], exit: x.Exit) -> None:
    assert decode(made(**members), reason, RIP) == exit


def test_every_decoder_is_tested() -> None:
    assert {reason for reason, _, _ in CASES} | {abi.EXIT_HLT} == set(DECODERS)


@pytest.mark.parametrize("flag", [0, 1])
def test_hlt_tells_whether_an_interrupt_could_wake_it(flag: int) -> None:
    run = new_run()
    run.if_flag = flag
    assert decode(run, abi.EXIT_HLT, RIP) == x.Halt(bool(flag), RIP)


def emulation(**fields: Any) -> x.Exit:
    return decode(made(emulation={"suberror": 1, **fields}), abi.EXIT_INTERNAL_ERROR, RIP)


def test_an_emulation_failure_carries_the_instruction() -> None:
    exit = emulation(ndata=4, flags=1, insn_size=3, insn_bytes=[0x0F, 0x01, 0xF9] + [0x90] * 12)
    message = "KVM internal error: emulation failed"
    assert exit == x.Fault("internal-error", message, b"\x0f\x01\xf9", RIP, rescuable=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"ndata": 0, "flags": 1, "insn_size": 3, "insn_bytes": [0xCC] * 15},
        {"ndata": 4, "flags": 0, "insn_size": 3, "insn_bytes": [0xCC] * 15},
        {"ndata": 4, "flags": 1, "insn_size": 0},
    ],
)
def test_an_emulation_failure_without_bytes(fields: dict[str, Any]) -> None:
    exit = emulation(**fields)
    assert isinstance(exit, x.Fault)
    assert exit.instruction == b""


def test_a_size_beyond_the_field_is_cut() -> None:
    exit = emulation(ndata=4, flags=1, insn_size=255, insn_bytes=[0x66] * 15)
    assert isinstance(exit, x.Fault)
    assert exit.instruction == b"\x66" * 15


@pytest.mark.parametrize(
    ("reason", "words"),
    [(1, "KVM_EXIT_EXCEPTION"), (12, "KVM_EXIT_TPR_ACCESS"), (37, "KVM_EXIT_NOTIFY"), (777, "no known name")],
)
def test_a_reason_that_nobody_handles_is_told_by_number(reason: int, words: str) -> None:
    exit = decode(new_run(), reason, RIP)
    assert isinstance(exit, x.Fault)
    assert exit.kind == "unknown-exit"
    assert f"exit reason {reason} ({words})" in exit.message


def test_the_hot_path_reads_where_the_structure_has_its_fields() -> None:
    run = new_run()
    run.exit_reason = 2
    run.io.direction, run.io.size, run.io.port, run.io.count, run.io.data_offset = 1, 4, 0xCF8, 3, 0x1000
    run.regs.rip = 0x1122334455667788
    assert _HOT.unpack_from(ffi.buffer(run)) == (2, 1, 4, 0xCF8, 3, 0x1000, 0x1122334455667788)
    assert ffi.offsetof("struct kvm_run", "mmio") + ffi.offsetof(ffi.typeof(run.mmio), "data") == _MMIO_DATA
    assert ffi.offsetof("struct kvm_run", "regs") == _REGS
    assert ffi.sizeof("struct kvm_regs") == GPRS.size
