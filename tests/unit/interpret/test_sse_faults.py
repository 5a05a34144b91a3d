"""When MMX and SSE instructions fault, with which vector, and what they leave behind."""

import struct

import pytest
from interpreted import Interpreted
from native_fpu import SCRATCH

from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.faults import GuestFault
from minihv.engine.interpret.table import PageTable, Table, load_table
from minihv.x86.registers import (
    CR0_EM,
    CR0_TS,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    VECTOR_GP,
    VECTOR_MF,
    VECTOR_NM,
    VECTOR_UD,
    VECTOR_XM,
)


@pytest.fixture(scope="module")
def table() -> Table:
    return load_table()


@pytest.fixture
def here(table: Table) -> Interpreted:
    return Interpreted(table)


def vector_of(here: Interpreted, code: str) -> int | None:
    try:
        here.run(bytes.fromhex(code))
    except GuestFault as fault:
        return fault.vector
    return None


SSE = ("0f58c1", "0f2841 0f", "660fefc1", "f20f10c1", "410fae9700040000", "660f3817c1", "660fd6c1")
"""addps, movaps, pxor, movsd, ldmxcsr, ptest, movq"""
MMX = ("0ffcc1", "0f6fc1", "0f77", "0f70c11b")
"""paddb, movq, emms, pshufw"""


@pytest.mark.parametrize("code", SSE)
def test_sse_needs_osfxsr_and_no_emulation_and_no_task_switch(here: Interpreted, code: str) -> None:
    cpu = here.cpu
    cpu.r[1] = 0x1001  # whatever the operand, availability comes first
    cpu.cr0 |= CR0_TS
    assert vector_of(here, code) == VECTOR_NM
    cpu.cr0 |= CR0_EM
    assert vector_of(here, code) == VECTOR_UD
    cpu.cr0 &= ~CR0_EM
    cpu.cr4 &= ~CR4_OSFXSR
    assert vector_of(here, code) == VECTOR_UD


@pytest.mark.parametrize("code", MMX)
def test_mmx_checks_the_x87(here: Interpreted, code: str) -> None:
    cpu = here.cpu
    cpu.cr4 &= ~CR4_OSFXSR
    assert vector_of(here, code) is None
    cpu.fpu.fsw = 0x8080
    assert vector_of(here, code) == VECTOR_MF
    cpu.cr0 |= CR0_TS
    assert vector_of(here, code) == VECTOR_NM
    cpu.cr0 |= CR0_EM
    assert vector_of(here, code) == VECTOR_UD


@pytest.mark.parametrize("code", ["0faee8", "0faef0", "0faef8", "0f1801", "f20f38f1c1", "410fc38700040000"])
def test_fences_prefetch_crc32_and_movnti_check_nothing(here: Interpreted, code: str) -> None:
    here.cpu.cr0 |= CR0_EM | CR0_TS
    here.cpu.cr4 = 0
    assert vector_of(here, code) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("410f288701040000", VECTOR_GP),  # movaps load
        ("410f298701040000", VECTOR_GP),  # movaps store
        ("410f2b8701040000", VECTOR_GP),  # movntps
        ("410f588701040000", VECTOR_GP),  # addps
        ("66410ffc8701040000", VECTOR_GP),  # paddb
        ("66410f382a8701040000", VECTOR_GP),  # movntdqa
        ("410f108701040000", None),  # movups
        ("f3410f6f8701040000", None),  # movdqu
        ("f2410ff08701040000", None),  # lddqu
        ("f3410f588701040000", None),  # addss
        ("66410f3a63870104000000", None),  # pcmpistri
        ("410ffc8701040000", None),  # paddb mm
    ],
)
def test_alignment(here: Interpreted, code: str, expected: int | None) -> None:
    before = list(here.cpu.xmm)
    assert vector_of(here, code) == expected
    if expected is not None:
        assert here.cpu.xmm == before


def floats(*values: str) -> int:
    return int.from_bytes(struct.pack("<4f", *map(float.fromhex, values)), "little")


ONES = floats("1", "1", "1", "1")


@pytest.mark.parametrize(
    ("code", "mxcsr", "a", "b", "flags"),
    [
        # What AMD Zen 4 left in MXCSR at the fault: ZE unmasked keeps the PE of another element away.
        ("0f5ec1", 0x1D80, ONES, floats("0", "3", "1", "1"), 0x04),
        ("0f5ec1", 0x0F80, ONES, floats("0", "3", "1", "1"), 0x24),
        ("0f5ec1", 0x0D80, ONES, floats("0", "3", "1", "1"), 0x04),
        ("0f59c1", 0x1780, floats("0x1p-126", "1", "1", "1"), floats("0.5", "1", "1", "1"), 0x10),
        ("0f59c1", 0x9780, floats("0x1p-126", "1", "1", "1"), floats("0.5", "1", "1", "1"), 0x10),
        ("0f59c1", 0x1B80, floats("0x1p127", "1", "1", "1"), floats("0x1p10", "3", "1", "1"), 0x08),
        ("0f5ec1", 0x1E80, floats("0x1p-130", "1", "1", "1"), floats("3", "3", "1", "1"), 0x02),
        ("660f3a40c1ff", 0x1B80, floats("0x1.234568p0", "0x1p127", "1", "1"),
         floats("0x1.234568p0", "0x1p127", "1", "1"), 0x28),
        ("660f3a40c1ff", 0x0F80, floats("0x1.234568p0", "0x1p127", "1", "1"),
         floats("0x1.234568p0", "0x1p127", "1", "1"), 0x28),
        ("660f3a40c1ff", 0x1780, floats("0x1p-127", "0x1p127", "1", "1"),
         floats("0x1.234568p-127", "0x1p127", "1", "1"), 0x3A),
        ("f20f7cc1", 0x1E80, floats("0x1p-127", "0x1p127", "1", "1"), ONES, 0x02),
    ],
)  # fmt: skip
def test_unmasked_exceptions(here: Interpreted, code: str, mxcsr: int, a: int, b: int, flags: int) -> None:
    cpu = here.cpu
    for osxmmexcpt, vector in ((CR4_OSXMMEXCPT, VECTOR_XM), (0, VECTOR_UD)):
        cpu.cr4 = cpu.cr4 & ~CR4_OSXMMEXCPT | osxmmexcpt
        cpu.xmm[0], cpu.xmm[1], cpu.mxcsr = a, b, mxcsr
        assert vector_of(here, code) == vector
        assert cpu.mxcsr == mxcsr | flags
        assert cpu.xmm[0] == a


def test_an_unmasked_compare_changes_no_flags(here: Interpreted) -> None:
    cpu = here.cpu
    cpu.mxcsr, cpu.xmm[0] = 0x1F00, 0x7FC00000
    cpu.set_rflags(0x8D7)
    assert vector_of(here, "0f2fc1") == VECTOR_XM  # comiss with a QNaN
    assert cpu.arith() == 0x8D5
    assert cpu.mxcsr == 0x1F01


@pytest.mark.parametrize(("value", "expected"), [(0xFFBF, None), (0xFFFF, None), (0x10000, VECTOR_GP)])
def test_reserved_mxcsr_bits(here: Interpreted, value: int, expected: int | None) -> None:
    at = here.cpu.r[15] + SCRATCH
    here.ram[at : at + 4] = value.to_bytes(4, "little")
    assert vector_of(here, "410fae9700040000") == expected
    assert here.cpu.mxcsr == (value if expected is None else 0x1F80)


def test_avx_is_not_there(here: Interpreted) -> None:
    for code in ("c5f058c1", "c5fc77", "c4e2790cc1", "62f1744858c1"):
        assert vector_of(here, code) == VECTOR_UD


def test_string_and_sse_instructions_of_one_name(here: Interpreted) -> None:
    cpu = here.cpu
    cpu.xmm[1] = 5
    assert vector_of(here, "f20f10c1") is None  # movsd xmm0, xmm1
    assert cpu.xmm[0] == 5
    cpu.r[6], cpu.r[7] = 0x3000, 0x3100
    here.ram[0x3000:0x3004] = b"abcd"
    assert vector_of(here, "a5") is None  # movsd
    assert bytes(here.ram[0x3100:0x3104]) == b"abcd"
    assert vector_of(here, "f20fc2c100") is None  # cmpsd xmm0, xmm1, 0
    assert cpu.xmm[0] == (1 << 64) - 1
    assert vector_of(here, "a7") is None  # cmpsd
    assert (cpu.r[6], cpu.r[7]) == (0x3008, 0x3108)


def test_vector_pages_are_taken_in_on_demand_and_all_at_once() -> None:
    complete, lazy = PageTable(), PageTable()
    complete.complete()
    assert Mnemonic.FADD not in lazy
    assert len(complete) > len(lazy)
    assert lazy.get(Mnemonic.MOV) is not None
    assert Mnemonic.FADD not in lazy
    assert lazy.get(Mnemonic.ADDPS) is not None
    assert Mnemonic.FADD in lazy
    assert lazy.get(Mnemonic.VADDPS) is None
    assert set(lazy) == set(complete)
