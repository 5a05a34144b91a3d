"""Protected mode: segment checks, privilege, call gates, stack switches, IRET, virtual-8086 mode."""

import pytest
from lab import (
    CODE,
    DATA,
    DATA32,
    FREE,
    GDT,
    STACK,
    TSS,
    USER_CODE32,
    USER_DATA,
    USER_STACK,
    Lab,
    protected,
)

from minihv.exits import Shutdown
from minihv.x86.state import CpuState, Segment


def _lab(text: str, user: bool = False, **gpr: int) -> Lab:
    lab = Lab()
    lab.catch(32)
    lab.put(TSS + 4, STACK, 4)
    lab.put(TSS + 8, DATA32, 4)
    lab.code(32, text)
    lab.start(protected(user), **gpr)
    return lab


@pytest.mark.parametrize(
    ("access", "flags", "limit", "text", "vector"),
    [
        (0x92, 4, 0xFF, "mov al, [0xff]; hlt", None),
        (0x92, 4, 0xFF, "mov al, [0x100]; hlt", 13),
        (0x92, 4, 0xFF, "mov eax, [0xfc]; hlt", None),
        (0x92, 4, 0xFF, "mov eax, [0xfd]; hlt", 13),
        (0x90, 4, 0xFF, "mov [0x10], al; hlt", 13),
        (0x90, 4, 0xFF, "mov al, [0x10]; hlt", None),
        (0x9A, 4, 0xFF, "mov al, [0x10]; hlt", None),
        (0x9A, 4, 0xFF, "mov [0x10], al; hlt", 13),
        (0x96, 4, 0xFF, "mov al, [0xff]; hlt", 13),
        (0x96, 4, 0xFF, "mov al, [0x100]; hlt", None),
        (0x96, 0, 0xFF, "mov eax, [0xfffd]; hlt", 13),
    ],
)
def test_data_segment_limits_and_types(
    access: int, flags: int, limit: int, text: str, vector: int | None
) -> None:
    lab = Lab()
    lab.catch(32)
    lab.descriptor(FREE, 0x8000, limit, access, flags)
    lab.code(32, f"mov ecx, {FREE}; mov ds, ecx; {text}")
    lab.start(protected())
    lab.run_to_halt()
    assert lab.taken() == vector
    if vector is None:
        assert lab.get(GDT + FREE + 5, 1) & 1, "the accessed bit must be set"


@pytest.mark.parametrize(
    ("access", "selector", "register", "vector", "error"),
    [
        (0x92, FREE, "ds", None, 0),
        (0x12, FREE, "ds", 11, FREE),  # not present
        (0x12, FREE, "ss", 12, FREE),
        (0x98, FREE, "ds", 13, FREE),  # execute-only
        (0x90, FREE, "ss", 13, FREE),  # read-only stack
        (0xF2, FREE, "ss", 13, FREE),  # DPL 3 at CPL 0
        (0x92, FREE | 3, "ss", 13, FREE),  # RPL 3 at CPL 0
        (0x92, FREE | 3, "ds", 13, FREE),
        (0x9E, FREE | 3, "ds", None, 0),  # conforming readable code
        (0x92, 0x7F8, "ds", 13, 0x7F8),  # beyond the table
        (0x92, 0x1004, "ds", 13, 0x1004),  # no LDT
        (0x92, 0, "ds", None, 0),
        (0x92, 0, "ss", 13, 0),
        (0x89, FREE, "ds", 13, FREE),  # a system descriptor
    ],
)
def test_loading_segments(access: int, selector: int, register: str, vector: int | None, error: int) -> None:
    lab = Lab()
    lab.catch(32)
    lab.descriptor(FREE, 0, 0xFFFFF, access, 0xC)
    lab.code(32, f"mov {register}, ecx; hlt")
    lab.start(protected(), rcx=selector)
    lab.run_to_halt()
    assert lab.taken() == vector
    if vector is not None:
        assert lab.frame(4, 2) == [error, CODE]


def test_null_data_segment_faults_at_use() -> None:
    lab = _lab("xor eax, eax; mov ds, eax; mov al, [0]; hlt")
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.frame(4, 2) == [0, CODE + 4]


def test_interrupt_from_ring_3_switches_the_stack_and_iret_goes_back() -> None:
    lab = _lab("int 0x80; mov ecx, 0x77; int 0x81", user=True)
    lab.gate32(0x80, DATA, 0xEE)
    lab.gate32(0x81, DATA + 0x10, 0xEE)
    lab.code(32, "mov eax, [esp]; mov ebx, [esp+12]; iretd", DATA)
    lab.code(32, "hlt", DATA + 0x10)
    lab.run_to_halt()
    assert (lab.rax, lab.rbx, lab.rcx) == (CODE + 2, USER_STACK, 0x77)
    cs, flags, sp, ss = lab.frame(4, 5)[1:]
    assert (cs, sp, ss, flags & 0x3002) == (USER_CODE32, USER_STACK, USER_DATA, 2)
    assert lab.rsp == STACK - 20
    assert lab.cpu.cpl == 0


def test_int_n_needs_the_gates_privilege() -> None:
    lab = _lab("int 0x80", user=True)
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.frame(4, 2) == [0x80 * 8 + 2, CODE]


def test_privileged_instructions_in_ring_3() -> None:
    for text in ("hlt", "cli", "mov eax, cr0", "lgdt [0]", "invlpg [0]", "wrmsr", "clts", "in al, dx"):
        lab = Lab()
        lab.catch(32)
        lab.put(TSS + 4, STACK, 4)
        lab.put(TSS + 8, DATA32, 4)
        lab.code(32, text)
        state = protected(user=True)
        state.tr = Segment(0x48, TSS, 0x67, 0x8B)  # no permission bitmap
        lab.start(state)
        lab.run_to_halt()
        assert lab.taken() == 13, text
        assert lab.frame(4, 2) == [0, CODE], text


def test_call_gate_copies_parameters_and_returns_outward() -> None:
    lab = _lab(f"push 0x1111; push 0x2222; call {FREE | 3}:0; hlt", user=True)
    lab.put(GDT + FREE, 0x0000EC0200080000 | DATA & 0xFFFF | (DATA >> 16) << 48, 8)
    lab.code(32, "mov eax, [esp+8]; mov ebx, [esp+12]; retf 8", DATA)
    lab.run_to_halt()
    assert lab.taken() == 13  # the HLT in ring 3
    assert (lab.rax, lab.rbx) == (0x2222, 0x1111)
    *_, sp, ss = lab.frame(4, 6)
    assert (sp, ss) == (USER_STACK, USER_DATA)


def test_call_gate_needs_privilege() -> None:
    lab = _lab(f"call {FREE}:0; hlt", user=True)
    lab.put(GDT + FREE, 0x00008C0000080000, 8)
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.frame(4, 1) == [FREE]


def test_return_to_ring_3_nulls_inner_data_segments() -> None:
    lab = _lab(f"push {USER_DATA}; push {USER_STACK}; push {USER_CODE32}; push {DATA}; retf")
    lab.gate32(0x80, DATA + 0x100, 0xEE)
    lab.code(32, "mov eax, ds; int 0x80", DATA)
    lab.code(32, "hlt", DATA + 0x100)
    lab.run_to_halt()
    assert lab.rax == 0


def test_limit_of_the_code_segment() -> None:
    lab = Lab()
    lab.catch(32)
    lab.descriptor(FREE, 0, 0x2FFF, 0x9A, 4)
    lab.code(32, f"jmp {FREE}:0x2ffe")
    lab.ram[0x2FFE:0x3002] = b"\x90\x90\x90\x90"
    lab.start(protected())
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.frame(4, 3)[:3] == [0, 0x3000, FREE]


def test_pusha_at_a_bad_stack_changes_nothing() -> None:
    lab = Lab()
    lab.catch(32)
    lab.descriptor(FREE, DATA, 0xFF, 0x92, 4)
    lab.code(32, "pushad; hlt")
    state = protected()
    state.ss = Segment(FREE, DATA, 0xFF, 0x4093)
    state.gpr[4] = 0x10
    for vector in (8, 12):  # task gates to nowhere: a double, then a triple fault, without a push
        lab.gate32(vector, DATA, 0x85, FREE + 8)
    lab.start(state)
    before = list(lab.cpu.r)
    assert isinstance(lab.run(), Shutdown)
    assert list(lab.cpu.r) == before


def _vm86(code: int = CODE) -> CpuState:
    state = protected()
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        setattr(state, name, Segment(0, 0, 0xFFFF, 0xF3))
    state.cs = Segment(code >> 4, code, 0xFFFF, 0xF3)
    state.rip = 0
    state.gpr[4] = 0x8000
    state.rflags = 0x20002
    return state


def test_virtual_8086_mode_interrupt_saves_the_segments() -> None:
    lab = Lab()
    lab.catch(32, 0xEE)
    lab.put(TSS + 4, STACK, 4)
    lab.put(TSS + 8, DATA32, 4)
    lab.code(16, "mov ax, 0x1234; mov fs, ax; ud2", origin=0)
    lab.start(_vm86())
    lab.run_to_halt()
    assert lab.taken() == 6
    ip, cs, flags, sp, ss, es, ds, fs, gs = lab.frame(4, 9)
    assert (ip, cs, sp, ss, es, ds, fs, gs) == (5, CODE >> 4, 0x8000, 0, 0, 0, 0x1234, 0)
    assert flags & 0x20000
    assert not lab.rflags & 0x20000
    assert lab.cpu.cpl == 0
    assert lab.cpu.seg[3].unusable


@pytest.mark.parametrize("text", ["cli", "sti", "pushf", "popf", "int 0x21", "iret"])
def test_virtual_8086_mode_is_iopl_sensitive(text: str) -> None:
    lab = Lab()
    lab.catch(32, 0xEE)
    lab.put(TSS + 4, STACK, 4)
    lab.put(TSS + 8, DATA32, 4)
    lab.code(16, text, origin=0)
    lab.start(_vm86())
    lab.run_to_halt()
    assert lab.taken() == 13
    assert lab.frame(4, 2) == [0, 0]


def test_iret_enters_virtual_8086_mode() -> None:
    lab = Lab()
    lab.catch(32, 0xEE)
    lab.put(TSS + 4, STACK, 4)
    lab.put(TSS + 8, DATA32, 4)
    lab.code(
        32,
        "push 5; push 4; push 3; push 2; push 0x100; push 0x7000; push 0x23002; push 0x3000; push 0; iretd",
    )
    lab.code(16, "mov ax, ds; mov bx, es; mov cx, ss; int 0x21", DATA, origin=0)
    lab.start(protected())
    lab.run_to_halt()
    assert lab.taken() == 0x21
    assert (lab.rax & 0xFFFF, lab.rbx & 0xFFFF, lab.rcx & 0xFFFF) == (3, 2, 0x100)
    assert lab.frame(4, 5)[3:] == [0x7000, 0x100]


def test_lar_lsl_verr_verw() -> None:
    lab = Lab()
    lab.descriptor(FREE, 0, 0xFF, 0x90, 4)
    lab.code(
        32,
        f"mov ecx, {FREE}; lar eax, ecx; setz dl; lsl ebx, ecx; setz dh;"
        "verr cx; setz ch; verw cx; setz cl; hlt",
    )
    lab.start(protected())
    lab.run_to_halt()
    assert (lab.rax, lab.rbx, lab.rdx & 0xFFFF) == (0x409000, 0xFF, 0x101)
    assert lab.rcx & 0xFF == 0


def test_double_fault_when_the_handlers_segment_is_missing() -> None:
    lab = _lab("ud2")
    lab.gate32(6, DATA, 0x8E, 0x1F8)
    lab.run_to_halt()
    assert lab.taken() == 13  # #UD is benign: the #GP of its delivery is delivered by itself
    assert lab.frame(4, 1) == [0x1F8 | 1]
    lab = _lab(f"mov eax, {FREE}; mov ds, eax")
    lab.gate32(11, DATA, 0x8E, 0x1F8)
    lab.gate32(13, DATA, 0x8E, 0x1F8)
    lab.run_to_halt()
    assert lab.taken() == 8
    assert lab.frame(4, 1) == [0]
