"""FXSAVE, XSAVE, XRSTOR, XGETBV, XSETBV: layouts, components, faults."""

from random import Random

import pytest
from float_cases import operand80
from interpreted import BASE, Interpreted
from native_fpu import SCRATCH, NativeFpu, needs_x86_64

from minihv.engine.interpret import convert, xsave
from minihv.engine.interpret.cpuid import pkru_offset
from minihv.engine.interpret.faults import GuestFault
from minihv.x86.registers import (
    CR0_EM,
    CR0_TS,
    CR4_OSFXSR,
    CR4_OSXSAVE,
    VECTOR_GP,
    VECTOR_NM,
    VECTOR_UD,
)

FXSAVE, FXSAVE64, FXRSTOR, FXRSTOR64 = (
    "410fae8700040000",
    "490fae8700040000",
    "410fae8f00040000",
    "490fae8f00040000",
)
XSAVE64, XSAVEOPT64, XRSTOR64 = "490faea700040000", "490faeb700040000", "490faeaf00040000"
XGETBV, XSETBV = "0f01d0", "0f01d1"
AREA = BASE + SCRATCH
X87, SSE, PKRU = 1, 2, 1 << 9


@pytest.fixture
def here() -> Interpreted:
    made = Interpreted(xsave.TABLE)
    made.cpu.cr4 |= CR4_OSXSAVE
    made.cpu.xcr0 = X87 | SSE | PKRU
    return made


def vector_of(here: Interpreted, code: str) -> int | None:
    try:
        here.run(bytes.fromhex(code))
    except GuestFault as fault:
        return fault.vector
    return None


def fill(here: Interpreted, seed: int = 1) -> None:
    """Some state in every component, and a scratch area of AA bytes."""
    rng, cpu = Random(seed), here.cpu
    cpu.xmm[:] = [rng.getrandbits(128) for _ in range(16)]
    cpu.mxcsr = 0x1FA0
    fpu = cpu.fpu
    fpu.fcw, fpu.fsw, fpu.empty = 0x27F, 0x2900, 0x3C
    fpu.regs[:] = [operand80(rng) for _ in range(8)]
    fpu.ip, fpu.cs, fpu.dp, fpu.ds, fpu.fop = 0x123456789A, 0x10, 0xFEDCBA98, 0x18, 0x123
    here.ram[AREA : AREA + 3000] = b"\xaa" * 3000


def snapshot(here: Interpreted) -> tuple[object, ...]:
    cpu, fpu = here.cpu, here.cpu.fpu
    return (tuple(cpu.xmm), cpu.mxcsr, fpu.fcw, fpu.fsw, fpu.empty, tuple(fpu.regs), cpu.pkru)


def select(here: Interpreted, mask: int) -> None:
    here.cpu.r[0], here.cpu.r[2] = mask, 0


def area(here: Interpreted, start: int, end: int) -> bytes:
    return bytes(here.ram[AREA + start : AREA + end])


def bitmap(here: Interpreted) -> int:
    return int.from_bytes(area(here, 512, 520), "little")


# FXSAVE --------------------------------------------------------------------------------------------


@needs_x86_64
def test_fxsave_writes_what_the_processor_writes() -> None:
    """All but the pointers and the MXCSR mask's newer bits."""
    native, here, rng = NativeFpu(), Interpreted(xsave.TABLE), Random(2)
    for _ in range(50):
        native.reset()
        native.fcw, native.fsw, native.ftw = 0x27F, rng.getrandbits(16) & 0x7F00, rng.getrandbits(8)
        for n in range(8):
            native.set_st(n, operand80(rng))
        for n in range(16):
            native.set_xmm(n, rng.getrandbits(128))
        native.set_scratch(b"\xaa" * 512)
        here.load(native)
        here.run(bytes.fromhex(FXSAVE64))
        native.run(bytes.fromhex(FXSAVE64))
        for start, end in ((0, 6), (24, 28), (32, 512)):
            assert area(here, start, end) == native.scratch(end - start, start)


def test_pointers_are_amd_s_secret_while_nothing_is_pending(here: Interpreted) -> None:
    fill(here)
    here.cpu.amd = True
    here.run(bytes.fromhex(FXSAVE64))
    assert area(here, 6, 24) == bytes(18)
    here.cpu.fpu.fsw |= 0x8080
    here.run(bytes.fromhex(FXSAVE64))
    assert area(here, 6, 16).hex() == "23019a78563412000000"


def test_pointer_forms(here: Interpreted) -> None:
    fill(here)
    here.cpu.amd = False
    here.run(bytes.fromhex(FXSAVE64))
    assert area(here, 6, 24).hex() == "2301" + "9a78563412000000" + "98badcfe00000000"
    assert area(here, 24, 32).hex() == "a01f0000ffff0000"
    here.run(bytes.fromhex(FXSAVE))
    assert area(here, 8, 24).hex() == "9a785634" + "10000000" + "98badcfe" + "18000000"
    here.cpu.fpu.init()
    here.run(bytes.fromhex(FXRSTOR))
    fpu = here.cpu.fpu
    assert (fpu.ip, fpu.cs, fpu.dp, fpu.ds, fpu.fop) == (0x3456789A, 0x10, 0xFEDCBA98, 0x18, 0x123)


def test_fxrstor_gives_back_everything(here: Interpreted) -> None:
    fill(here)
    before = snapshot(here)
    here.run(bytes.fromhex(FXSAVE64))
    here.cpu.xmm[:] = [0] * 16
    here.cpu.fpu.init()
    here.cpu.mxcsr = 0x1F80
    here.run(bytes.fromhex(FXRSTOR64))
    assert snapshot(here) == before


def test_fxsave_leaves_xmm_out_without_osfxsr(here: Interpreted) -> None:
    fill(here)
    here.cpu.cr4 &= ~CR4_OSFXSR
    here.run(bytes.fromhex(FXSAVE64))
    assert area(here, 160, 416) == b"\xaa" * 256


@pytest.mark.parametrize("code", [FXSAVE, FXRSTOR64])
def test_fxsave_faults(here: Interpreted, code: str) -> None:
    here.cpu.cr0 |= CR0_TS
    assert vector_of(here, code) == VECTOR_NM
    here.cpu.cr0 |= CR0_EM
    assert vector_of(here, code) == VECTOR_UD
    here.cpu.cr0 &= ~(CR0_EM | CR0_TS)
    here.cpu.r[15] += 8
    assert vector_of(here, code) == VECTOR_GP


def test_a_reserved_mxcsr_bit_restores_nothing(here: Interpreted) -> None:
    fill(here)
    before = snapshot(here)
    here.ram[AREA : AREA + 512] = bytes(26) + b"\1" + bytes(485)
    assert vector_of(here, FXRSTOR64) == VECTOR_GP
    here.ram[AREA + 512 : AREA + 576] = bytes(64)
    select(here, X87 | SSE)
    assert vector_of(here, XRSTOR64) == VECTOR_GP
    assert snapshot(here) == before


# XSAVE ---------------------------------------------------------------------------------------------


def test_xsave_writes_only_what_is_asked_for(here: Interpreted) -> None:
    fill(here)
    select(here, X87)
    here.ram[AREA + 512 : AREA + 576] = bytes(64)
    here.run(bytes.fromhex(XSAVE64))
    assert bitmap(here) == X87
    assert area(here, 0, 2) == b"\x7f\x02"
    assert area(here, 24, 32) == b"\xaa" * 8
    assert area(here, 160, 416) == b"\xaa" * 256
    select(here, SSE)
    here.run(bytes.fromhex(XSAVE64))
    assert bitmap(here) == X87 | SSE
    assert area(here, 160, 176) == here.cpu.xmm[0].to_bytes(16, "little")


def test_xsave_and_xrstor_are_inverse_with_pkru(here: Interpreted) -> None:
    fill(here)
    here.cpu.pkru = 0x55555554
    here.ram[AREA + 512 : AREA + 576] = bytes(64)
    select(here, 0xFFFFFFFF)
    before = snapshot(here)
    here.run(bytes.fromhex(XSAVE64))
    assert bitmap(here) == X87 | SSE | PKRU
    at = pkru_offset(here.cpu.amd)
    assert area(here, at, at + 8).hex() == "5455555500000000"
    here.cpu.xmm[:] = [1] * 16
    here.cpu.fpu.init()
    here.cpu.pkru = 0
    here.run(bytes.fromhex(XRSTOR64))
    assert snapshot(here) == before


def test_what_the_header_lacks_gets_its_initial_state(here: Interpreted) -> None:
    fill(here)
    here.cpu.pkru = 4
    here.ram[AREA : AREA + 576] = bytes(576)
    here.ram[AREA + 24 : AREA + 28] = (0x1F81).to_bytes(4, "little")
    select(here, 0xFFFFFFFF)
    here.run(bytes.fromhex(XRSTOR64))
    assert here.cpu.mxcsr == 0x1F81
    assert (here.cpu.fpu.fcw, here.cpu.fpu.empty, any(here.cpu.fpu.regs)) == (0x37F, 0xFF, False)
    assert not any(here.cpu.xmm)
    assert here.cpu.pkru == 0
    assert xsave.in_use(here.cpu) == 0


def test_xsaveopt_leaves_out_initial_state(here: Interpreted) -> None:
    fill(here)
    here.cpu.fpu.init()
    here.cpu.fpu.regs[:] = [0] * 8
    here.ram[AREA + 512 : AREA + 576] = bytes(64)
    select(here, X87 | SSE)
    here.run(bytes.fromhex(XSAVEOPT64))
    assert bitmap(here) == SSE
    assert area(here, 0, 24) == b"\xaa" * 24
    here.cpu.r[1] = 1
    here.run(bytes.fromhex(XGETBV))
    assert here.cpu.r[0] == SSE


@pytest.mark.parametrize("code", [XSAVE64, XRSTOR64, XSAVEOPT64])
def test_xsave_faults(here: Interpreted, code: str) -> None:
    here.ram[AREA : AREA + 1024] = bytes(1024)
    here.cpu.r[15] += 16
    assert vector_of(here, code) == VECTOR_GP
    here.cpu.cr0 |= CR0_TS
    assert vector_of(here, code) == VECTOR_NM
    here.cpu.cr4 &= ~CR4_OSXSAVE
    assert vector_of(here, code) == VECTOR_UD


@pytest.mark.parametrize(("at", "value"), [(512, 4), (520, 1), (527, 0x80), (528, 1)])
def test_bad_headers(here: Interpreted, at: int, value: int) -> None:
    here.ram[AREA : AREA + 1024] = bytes(1024)
    here.ram[AREA + at] = value
    select(here, 7)
    assert vector_of(here, XRSTOR64) == VECTOR_GP


# XCR0 ----------------------------------------------------------------------------------------------


def test_xgetbv(here: Interpreted) -> None:
    here.cpu.r[1], here.cpu.r[2] = 0xFFFFFFFF00000000, 77
    here.run(bytes.fromhex(XGETBV))
    assert (here.cpu.r[0], here.cpu.r[2]) == (X87 | SSE | PKRU, 0)
    here.cpu.r[1] = 2
    assert vector_of(here, XGETBV) == VECTOR_GP
    here.cpu.cr4 &= ~CR4_OSXSAVE
    assert vector_of(here, XGETBV) == VECTOR_UD


@pytest.mark.parametrize(
    ("value", "index", "cpl", "expected"),
    [
        (1, 0, 0, None), (3, 0, 0, None), (0x203, 0, 0, None), (2, 0, 0, VECTOR_GP), (7, 0, 0, VECTOR_GP),
        (3, 1, 0, VECTOR_GP), (3, 0, 3, VECTOR_GP), (1 | 1 << 62, 0, 0, VECTOR_GP),
    ],
)  # fmt: skip
def test_xsetbv(here: Interpreted, value: int, index: int, cpl: int, expected: int | None) -> None:
    cpu = here.cpu
    cpu.r[0], cpu.r[2], cpu.r[1], cpu.cpl = value & 0xFFFFFFFF, value >> 32, index, cpl
    assert vector_of(here, XSETBV) == expected
    assert cpu.xcr0 == (value if expected is None else X87 | SSE | PKRU)


# The exchange format of `CpuState` -----------------------------------------------------------------


@pytest.mark.parametrize("amd", [False, True])
def test_a_state_area_carries_everything(here: Interpreted, amd: bool) -> None:
    cpu = here.cpu
    cpu.amd = amd
    fill(here)
    cpu.pkru = 0x14
    before = snapshot(here)
    exchanged = convert.xsave_area(cpu)
    assert int.from_bytes(exchanged[512:520], "little") == X87 | SSE | PKRU
    cpu.xmm[:] = [0] * 16
    cpu.mxcsr, cpu.pkru = 0x1F80, 0
    cpu.fpu.reset()
    convert.load_xsave(cpu, exchanged)
    assert snapshot(here) == before
    assert cpu.fpu.ip == 0x123456789A
