"""Long mode: entry, the 64-bit IDT, IST, system calls, segment bases, compatibility mode."""

import pytest
from lab import (
    CODE,
    CODE32,
    CODE64,
    DATA,
    DATA32,
    PML4,
    STACK,
    TSS,
    USER_CODE64,
    USER_STACK,
    Lab,
    long_mode,
    map_identity,
    protected,
)

from minihv.exits import Hypercall
from minihv.x86.registers import (
    CR4_FSGSBASE,
    CR4_UMIP,
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_STAR,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_EIP,
    MSR_SYSENTER_ESP,
)


def _lab(text: str, user: bool = False, vendor: str = "AuthenticAMD", **gpr: int) -> Lab:
    lab = Lab(vendor)
    lab.catch(64)
    map_identity(lab)
    lab.put(TSS + 4, STACK, 8)
    lab.put(TSS + 0x24, 0x2F000, 8)
    lab.code(64, text)
    lab.start(long_mode(user), **gpr)
    return lab


def test_entering_long_mode_from_protected_mode() -> None:
    lab = Lab()
    map_identity(lab)
    lab.code(
        32,
        f"""mov eax, cr4; or eax, 0x20; mov cr4, eax; mov eax, {PML4}; mov cr3, eax
        mov ecx, 0xc0000080; rdmsr; or eax, 0x100; wrmsr
        mov eax, cr0; or eax, 0x80000000; mov cr0, eax; rdmsr; mov ebx, eax; jmp {CODE64}:{DATA}""",
    )
    lab.code(64, "mov rax, 0x123456789abcdef0; push rax; pop rdx; hlt", DATA)
    lab.start(protected())
    lab.run_to_halt()
    assert lab.rdx == 0x123456789ABCDEF0
    assert lab.rbx & 0x500 == 0x500
    assert lab.cpu.mode.bits == 64


def test_interrupt_frame_is_aligned_and_complete() -> None:
    lab = _lab("mov rsp, 0x1fff9; ud2")
    lab.run_to_halt()
    assert lab.taken() == 6
    rip, cs, flags, rsp, ss = lab.frame(8, 5)
    assert (rip, cs, rsp, ss) == (CODE + 7, CODE64, 0x1FFF9, DATA32)
    assert flags & 0x10000  # RF: a fault
    assert lab.rsp == 0x1FFF0 - 40


def test_from_ring_3_ss_becomes_null_and_iretq_returns() -> None:
    lab = _lab("int 0x80; mov ecx, 7; int 0x81", user=True)
    lab.gate64(0x80, DATA, 0xEE)
    lab.gate64(0x81, DATA + 0x10, 0xEE)
    lab.code(64, "mov eax, ss; iretq", DATA)
    lab.code(64, "hlt", DATA + 0x10)
    lab.run_to_halt()
    assert (lab.rax, lab.rcx) == (0, 7)
    assert lab.frame(8, 5)[1::2] == [USER_CODE64, USER_STACK]
    assert lab.rsp == STACK - 40


def test_interrupt_stack_table() -> None:
    lab = _lab("mov rax, [0x400000]", user=False)
    lab.gate64(14, DATA, 0x8E, 1)
    lab.ram[DATA] = 0xF4
    lab.run_to_halt()
    assert lab.rsp == 0x2F000 - 48
    assert lab.frame(8, 2) == [0, CODE]
    assert lab.cpu.cr2 == 0x400000


@pytest.mark.parametrize(("text", "vector"), [
    ("mov rax, 0x800000000000; mov bl, [rax]", 13),
    ("mov rbp, 0x800000000000; mov bl, [rbp]", 12),
    ("mov rsp, 0x800000000000; pop rax", 12),
    ("mov rax, 0x7ffffffffffc; mov rbx, [rax]", 13),
    ("mov rax, 0x800000000000; jmp rax", 13),
    ("mov rax, 0x800000000000; push rax; ret", 13),
])  # fmt: skip
def test_non_canonical_addresses(text: str, vector: int) -> None:
    lab = _lab(text)
    lab.gate64(12, DATA, 0x8E, 1)
    lab.gate64(13, DATA + 16, 0x8E, 1)
    lab.ram[DATA] = lab.ram[DATA + 16] = 0xF4
    lab.run_to_halt()
    assert lab.rip == {12: DATA, 13: DATA + 16}[vector] + 1
    assert lab.frame(8, 2) == [0, CODE + 10 + (1 if text.endswith("ret") else 0)]


def test_syscall_and_sysret() -> None:
    lab = _lab("syscall; mov ebx, 0x99; int 0x80", user=True, rax=1)
    lab.gate64(0x80, DATA + 0x40, 0xEE)
    lab.ram[DATA + 0x40] = 0xF4
    cpu = lab.cpu
    cpu.msrs[MSR_STAR] = (0x18 << 32) | (0x23 << 48)
    cpu.msrs[MSR_LSTAR], cpu.msrs[MSR_SFMASK] = DATA, 0x200
    lab.code(64, "mov edx, cs; mov esi, ss; sysretq", DATA)
    cpu.flags |= 0x200
    lab.run_to_halt()
    assert (lab.rcx, lab.rdx, lab.rsi, lab.rbx) == (CODE + 2, 0x18, 0x20, 0x99)
    assert lab.r11 & 0x200
    assert lab.frame(8, 2)[1] == 0x33


def test_syscall_without_sce_is_ud() -> None:
    lab = _lab("syscall")
    lab.cpu.efer &= ~1
    lab.run_to_halt()
    assert lab.taken() == 6


@pytest.mark.parametrize(("vendor", "works"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_sysenter_in_long_mode_is_intels(vendor: str, works: bool) -> None:
    lab = _lab("sysenter", user=True, vendor=vendor)
    cpu = lab.cpu
    cpu.msrs[MSR_SYSENTER_CS], cpu.msrs[MSR_SYSENTER_EIP] = CODE64, DATA
    cpu.msrs[MSR_SYSENTER_ESP] = STACK
    lab.ram[DATA] = 0xF4
    lab.run_to_halt()
    if works:
        assert (lab.rip, lab.rsp, lab.cpu.cpl) == (DATA + 1, STACK, 0)
    else:
        assert lab.taken() == 6


def test_segment_bases_and_swapgs() -> None:
    lab = _lab("mov rax, gs:[8]; swapgs; mov rbx, gs:[8]; rdfsbase rcx; wrgsbase rdx; mov rsi, gs:[8]; hlt")
    cpu = lab.cpu
    cpu.cr4 |= CR4_FSGSBASE
    cpu.seg[5].base, cpu.seg[4].base = DATA, 0x1234
    cpu.msrs[MSR_KERNEL_GS_BASE] = DATA + 0x100
    cpu.r[2] = DATA + 0x200
    for n in range(3):
        lab.put(DATA + 0x100 * n + 8, n + 1, 8)
    lab.run_to_halt()
    assert (lab.rax, lab.rbx, lab.rcx, lab.rsi) == (1, 2, 0x1234, 3)
    assert cpu.msrs[MSR_KERNEL_GS_BASE] == DATA


@pytest.mark.parametrize("index", [MSR_FS_BASE, MSR_GS_BASE, MSR_LSTAR])
def test_msrs_with_addresses_refuse_non_canonical_ones(index: int) -> None:
    lab = _lab("wrmsr; hlt", rcx=index, rdx=0x8000)
    lab.run_to_halt()
    assert lab.taken() == 13


def test_fsgsbase_needs_its_cr4_bit() -> None:
    lab = _lab("rdfsbase rax")
    lab.run_to_halt()
    assert lab.taken() == 6


def test_compatibility_mode_runs_32_bit_code_and_interrupts_enter_64_bit_mode() -> None:
    lab = _lab(f"push {CODE32}; push {DATA}; retfq")
    lab.code(32, "mov eax, -1; inc eax; dec eax; add eax, 2; ud2", DATA)
    lab.run_to_halt()
    assert lab.taken() == 6
    assert lab.cpu.mode.bits == 64
    assert lab.rax == 1
    assert lab.frame(8, 2) == [DATA + 10, CODE32]


@pytest.mark.parametrize("text", ["sgdt [rsp]", "sidt [rsp]", "sldt eax", "str eax", "smsw eax"])
@pytest.mark.parametrize("umip", [False, True])
def test_user_mode_instruction_prevention(text: str, umip: bool) -> None:
    lab = _lab(f"{text}; ud2", user=True)
    if umip:
        lab.cpu.cr4 |= CR4_UMIP
    lab.run_to_halt()
    assert lab.taken() == (13 if umip else 6)


def test_hypercall_reaches_the_vmm_and_its_answer_rax() -> None:
    lab = _lab("vmcall; hlt", rax=7, rbx=1, rcx=2, rdx=3, rsi=4)
    exit = lab.run()
    assert exit == Hypercall(7, (1, 2, 3, 4), CODE)
    lab.vcpu.complete((0x55).to_bytes(8, "little"))
    lab.run_to_halt()
    assert lab.rax == 0x55


def test_cmpxchg16b() -> None:
    lab = _lab(
        f"cmpxchg16b [{DATA}]; setz cl; cmpxchg16b [{DATA}]; setz ch; cmpxchg16b [{DATA}+8]",
        rbx=5,
        rcx=6,
        rdx=0,
    )
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.rcx & 0xFFFF == 0x0001
    assert (lab.get(DATA, 8), lab.rax, lab.rdx) == (5, 5, 6)
