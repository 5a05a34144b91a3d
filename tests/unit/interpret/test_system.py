"""System instructions, each form at least once: what ring 3 cannot try on the host's processor."""

import struct

import pytest
from lab import CODE, DATA, FREE, GDT, TSS_SELECTOR, Lab, long_mode, map_identity, protected, real_mode

from minihv.exits import BudgetSpent
from minihv.x86.registers import (
    CR0_TS,
    CR4_OSXSAVE,
    MSR_K7_PERFCTR0,
    MSR_STAR,
    MSR_SYSENTER_CS,
    MSR_TSC_AUX,
    VECTOR_GP,
    VECTOR_UD,
)
from minihv.x86.state import CpuState

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
TABLE_LIMIT, TABLE_BASE = 0x1234, 0x00112233


def execute(raw: str, state: CpuState, vendor: str = AMD, data: bytes = b"", **gpr: int) -> Lab:
    """One instruction at CODE, with `data` at DATA."""
    lab = Lab(vendor)
    map_identity(lab)
    code = bytes.fromhex(raw)
    lab.ram[CODE : CODE + len(code)] = code
    lab.ram[DATA : DATA + len(data)] = data
    lab.descriptor(FREE, 0x7000, 0xFF, 0x82)
    lab.put(GDT + FREE + 8, 0, 8)
    lab.start(state, **gpr)
    assert isinstance(lab.run(1), BudgetSpent)
    return lab


def went_on(lab: Lab, raw: str) -> bool:
    """No fault: RIP is behind the instruction."""
    return lab.rip in (CODE + len(bytes.fromhex(raw)), len(bytes.fromhex(raw)))


@pytest.mark.parametrize("raw", ["66 0f 00 c8", "0f 00 c8", "48 0f 00 c8"])
def test_str(raw: str) -> None:
    lab = execute(raw, long_mode(), rax=0xFFFF_0000)
    upper = 0xFFFF_0000 if raw.startswith("66") else 0
    assert lab.rax == upper | TSS_SELECTOR


@pytest.mark.parametrize("raw", ["66 0f 00 c0", "0f 00 c0", "48 0f 00 c0"])
def test_sldt(raw: str) -> None:
    state = long_mode()
    state.ldtr.selector = FREE
    assert execute(raw, state).rax & 0xFFFF == FREE


@pytest.mark.parametrize("raw", ["66 0f 00 d0", "0f 00 d0", "48 0f 00 d0"])
def test_lldt(raw: str) -> None:
    lab = execute(raw, long_mode(), rax=FREE)
    assert (lab.cpu.ldtr.selector, lab.cpu.ldtr.base, lab.cpu.ldtr.limit) == (FREE, 0x7000, 0xFF)


@pytest.mark.parametrize("raw", ["66 0f 00 d8", "0f 00 d8", "48 0f 00 d8"])
def test_ltr(raw: str) -> None:
    state = long_mode()
    state.tr.selector = 0
    lab = execute(raw, state, rax=TSS_SELECTOR)
    assert lab.cpu.tr.selector == TSS_SELECTOR
    assert lab.get(GDT + TSS_SELECTOR + 5, 1) & 0xF == 11  # busy


@pytest.mark.parametrize(("raw", "mode"), [("0f 01 06 00 30", "16"), ("0f 01 05 00 00 03 00", "32")])
@pytest.mark.parametrize("idt", [False, True])
def test_sgdt_and_sidt(raw: str, mode: str, idt: bool) -> None:
    state = real_mode() if mode == "16" else protected()
    table = state.idtr if idt else state.gdtr
    table.base, table.limit = TABLE_BASE, TABLE_LIMIT
    if idt:
        raw = raw.replace("01 06", "01 0e").replace("01 05", "01 0d")
    lab = execute(raw, state)
    at = 0x3000 if mode == "16" else DATA
    assert (lab.get(at, 2), lab.get(at + 2, 4)) == (TABLE_LIMIT, TABLE_BASE)


@pytest.mark.parametrize(
    ("raw", "mode"),
    [
        ("0f 01 16 00 30", "16"),
        ("0f 01 15 00 00 03 00", "32"),
        ("0f 01 14 25 00 00 03 00", "64"),
    ],
)
@pytest.mark.parametrize("idt", [False, True])
def test_lgdt_and_lidt(raw: str, mode: str, idt: bool) -> None:
    """With a 16-bit operand 24 bits of base count (SDM Vol. 2A, LGDT)."""
    state = {"16": real_mode, "32": protected, "64": long_mode}[mode]()
    image = struct.pack("<HQ", TABLE_LIMIT, 0xAA000000 | TABLE_BASE)
    if idt:
        raw = raw.replace("01 16", "01 1e").replace("01 15", "01 1d").replace("01 14", "01 1c")
    lab = Lab()
    map_identity(lab)
    code = bytes.fromhex(raw)
    lab.ram[CODE : CODE + len(code)] = code
    at = 0x3000 if mode == "16" else DATA
    lab.ram[at : at + len(image)] = image
    lab.start(state)
    lab.run(1)
    table = lab.cpu.idtr if idt else lab.cpu.gdtr
    assert table.limit == TABLE_LIMIT
    assert table.base == (TABLE_BASE if mode == "16" else 0xAA000000 | TABLE_BASE)


@pytest.mark.parametrize("raw", ["66 0f 01 e0", "0f 01 e0", "48 0f 01 e0"])
def test_smsw(raw: str) -> None:
    lab = execute(raw, long_mode())
    assert lab.rax & 0xFFFF == lab.cpu.cr0 & 0xFFFF


@pytest.mark.parametrize("raw", ["66 0f 01 f0", "0f 01 f0", "48 0f 01 f0"])
def test_lmsw_sets_ts_and_cannot_clear_pe(raw: str) -> None:
    lab = execute(raw, long_mode(), rax=CR0_TS)
    assert lab.cpu.cr0 & CR0_TS
    assert lab.cpu.cr0 & 1


def test_clts() -> None:
    state = long_mode()
    state.cr0 |= CR0_TS
    assert not execute("0f 06", state).cpu.cr0 & CR0_TS


def test_xgetbv_and_xsetbv() -> None:
    state = long_mode()
    state.cr4 |= CR4_OSXSAVE
    state.xcr0 = 3
    lab = execute("0f 01 d0", state, rax=99, rdx=99)
    assert (lab.rax, lab.rdx) == (3, 0)
    state.xcr0 = 1
    assert execute("0f 01 d1", state, rax=3, rdx=0).cpu.xcr0 == 3


def test_rdtscp_and_rdpid_give_tsc_aux() -> None:
    state = long_mode()
    state.msrs[MSR_TSC_AUX] = 7
    lab = execute("0f 01 f9", state, rcx=99)
    assert lab.rcx == 7
    assert (lab.rdx << 32 | lab.rax) < 1000  # the time-stamp counter counts instructions here
    assert execute("f3 0f c7 f8", state).rax == 7
    narrow = protected()
    narrow.msrs[MSR_TSC_AUX] = 7
    assert execute("f3 0f c7 f8", narrow).rax == 7


def test_cpuid() -> None:
    lab = execute("0f a2", long_mode(), INTEL)
    assert b"".join(r.to_bytes(4, "little") for r in (lab.rbx, lab.rdx, lab.rcx)) == INTEL.encode()


@pytest.mark.parametrize("raw", ["0f 09", "0f 08"])
def test_wbinvd_and_invd(raw: str) -> None:
    assert went_on(execute(raw, long_mode()), raw)


def test_debug_registers() -> None:
    state = long_mode()
    state.dr[1] = 0x123456789
    assert execute("0f 21 c8", state).rax == 0x123456789
    assert execute("0f 23 c8", protected(), rax=0x5000).cpu.dr[1] == 0x5000


@pytest.mark.parametrize("state", [protected(), long_mode()], ids=["32", "64"])
def test_invpcid_of_everything(state: CpuState) -> None:
    raw = "66 0f 38 82 07"
    assert went_on(execute(raw, state, rax=2, rdi=DATA), raw)


def test_sysret_to_compatibility_mode() -> None:
    state = long_mode()
    state.msrs[MSR_STAR] = 0x0020 << 48
    lab = execute("0f 07", state, rcx=0x12345, r11=0x202)
    assert (lab.cpu.seg[1].selector, lab.rip, lab.cpu.cpl) == (0x23, 0x12345, 3)
    assert lab.cpu.mode.bits == 32


@pytest.mark.parametrize(
    ("raw", "state", "cs"), [("0f 35", protected(), 0x1B), ("48 0f 35", long_mode(), 0x2B)]
)
def test_sysexit(raw: str, state: CpuState, cs: int) -> None:
    """SDM Vol. 2B: CS is 16 or, to 64-bit code, 32 above IA32_SYSENTER_CS."""
    state.msrs[MSR_SYSENTER_CS] = 0x8
    lab = execute(raw, state, INTEL, rcx=0x20000, rdx=0x12000)
    assert (lab.cpu.seg[1].selector, lab.cpu.seg[2].selector) == (cs, cs + 8)
    assert (lab.rip, lab.rsp, lab.cpu.cpl) == (0x12000, 0x20000, 3)


@pytest.mark.parametrize("vendor", [INTEL, AMD])
@pytest.mark.parametrize("raw", ["0f ff c0", "66 0f ff c0", "48 0f ff c0"])
def test_ud0_is_undefined(raw: str, vendor: str) -> None:
    assert _fault(raw, long_mode(), vendor) == VECTOR_UD


def test_rdpmc() -> None:
    """AMD's processors have four counters that CPUID does not list; any other number is wrong."""
    state = long_mode()
    state.msrs[MSR_K7_PERFCTR0 + 1] = 0x1_2345_6789
    lab = execute("0f 33", state, rcx=1)
    assert (lab.rdx, lab.rax) == (1, 0x2345_6789)
    assert _fault("0f 33", long_mode(), AMD, rcx=77) == VECTOR_GP
    assert _fault("0f 33", long_mode(), INTEL, rcx=1) == VECTOR_GP


def _fault(raw: str, state: CpuState, vendor: str, **gpr: int) -> int | None:
    lab = Lab(vendor)
    map_identity(lab)
    lab.catch(64)
    code = bytes.fromhex(raw)
    lab.ram[CODE : CODE + len(code)] = code
    lab.start(state, **gpr)
    lab.run_to_halt()
    return lab.taken()
