"""Every x87 encoding against this host's processor: full and empty stacks, any FCW, pending flags."""

from random import Random

import pytest
from float_cases import near80, operand, operand80, random_fcw
from interpreted import BASE, Interpreted, encode, forms, random_vector
from native_fpu import SCRATCH, NativeFpu, needs_x86_64

from minihv.engine.interpret import x87_arithmetic, x87_control, x87_math, x87_moves
from minihv.engine.interpret.faults import GuestFault
from minihv.engine.interpret.table import Table
from minihv.x86.registers import CR0_EM, CR0_MP, CR0_TS, VECTOR_MF, VECTOR_NM
from minihv.x86.softfloat import F32, F64

PAGES = (x87_moves, x87_arithmetic, x87_math, x87_control)
TABLE: Table = {mnemonic: builder for page in PAGES for mnemonic, builder in page.TABLE.items()}
TRANSCENDENTAL = ("FSIN", "FCOS", "FPTAN", "F2XM1", "FPATAN", "FYL2X")
"""Agree within one unit in the last place: `test_softfloat_math`; here their stack behaviour counts."""
STORES_POINTERS = ("FNSTENV", "FNSAVE")
"""Show where the instruction was, which is not the same address on the host."""
FORMS = [form for form in forms(TABLE) if not form[0].startswith((*TRANSCENDENTAL, *STORES_POINTERS))]
FUNCTIONS = [form for form in forms(TABLE) if form[0].startswith(TRANSCENDENTAL)]
GROUPS = sorted({name.split("_")[0] for name, _, _ in FORMS})


def randomise(native: NativeFpu, rng: Random, name: str) -> None:
    """Any stack; flags may be set but are masked, so nothing is pending."""
    native.reset()
    native.fcw = random_fcw(rng)
    native.fsw = rng.getrandbits(16) & 0x7F00 | rng.getrandbits(6) & native.fcw & 0x3F
    native.rflags = 0x202 | rng.getrandbits(12) & 0x8D5
    native.set_gpr(0, rng.getrandbits(64))
    top = native.fsw >> 11 & 7
    native.ftw = rng.choice((0, 0xFF, rng.getrandbits(8), rng.getrandbits(8), rng.getrandbits(8)))
    if rng.random() < 0.7:
        native.ftw |= 1 << top | 1 << (top + 1 & 7)
    if rng.random() < 0.5:
        native.ftw &= ~(1 << (top - 1 & 7))
    for n in range(8):
        native.set_st(n, operand80(rng) if rng.random() < 0.6 else near80(rng, -20, 20))
    native.set_scratch(memory_operand(rng, name))


def memory_operand(rng: Random, name: str) -> bytes:
    tail = random_vector(rng).to_bytes(16, "little") * 8
    if name.startswith(("FLDCW", "FLDENV", "FRSTOR")):
        return (
            bytes((rng.getrandbits(8), rng.getrandbits(8), 0, 0, rng.getrandbits(8), rng.getrandbits(8)))
            + tail
        )
    if name.startswith("FBLD"):
        return (int(str(rng.randrange(10**18)), 16) | rng.getrandbits(1) << 79).to_bytes(10, "little") + tail
    kind = rng.randrange(3)
    if kind == 0:
        return operand(rng, F32).to_bytes(4, "little") + tail
    return (
        operand(rng, F64).to_bytes(8, "little") if kind == 1 else operand80(rng).to_bytes(10, "little")
    ) + tail


def check(name: str, code: int, memory: bool, count: int) -> None:
    native, here, rng = NativeFpu(), Interpreted(TABLE), Random(f"{name} {memory}")
    for _ in range(count):
        randomise(native, rng, name)
        code_bytes = encode(code, rng, memory)
        state = f"fcw {native.fcw:#x} fsw {native.fsw:#x} ftw {native.ftw:#x} st0 {native.st(0):#x}"
        here.load(native)
        here.run(code_bytes)
        native.run(code_bytes)
        assert here.differences(native) == [], f"{name}: {code_bytes.hex()} with {state}"


@needs_x86_64
@pytest.mark.parametrize("group", GROUPS)
def test_against_the_processor(group: str) -> None:
    for name, code, memory in FORMS:
        if name.split("_")[0] == group:
            check(name, code, memory, 25)


@needs_x86_64
@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_against_the_processor_at_length(group: str) -> None:
    for name, code, memory in FORMS:
        if name.split("_")[0] == group:
            check(name, code, memory, 2500)


def test_the_list_of_encodings_is_the_whole_one() -> None:
    assert len(FORMS) >= 130
    assert len(FUNCTIONS) == 8


@needs_x86_64
@pytest.mark.parametrize("form", FUNCTIONS, ids=lambda form: str(form[0]))
def test_transcendental_stack_behaviour(form: tuple[str, int, bool]) -> None:
    """TOP, tags, IE, DE, SF, C2 where the operands are such that the manual defines the outcome."""
    name, code, memory = form
    native, here, rng = NativeFpu(), Interpreted(TABLE), Random(name)
    code_bytes = encode(code, rng, memory)
    for _ in range(60):
        randomise(native, rng, name)
        native.set_st(0, near80(rng, -70, -2))
        here.load(native)
        here.run(code_bytes)
        native.run(code_bytes)
        mask = 0xFC43
        state = f"fcw {native.fcw:#x} fsw {native.fsw:#x}"
        assert here.cpu.fpu.fsw & mask == native.fsw & mask, state
        assert here.cpu.fpu.empty ^ 0xFF == native.ftw, state


# Faults and pointers -------------------------------------------------------------------------------

FADD, FLD_M64, FNOP, FNINIT, FWAIT, FSTP_M32 = (
    bytes.fromhex(code) for code in ("d8c1", "41dd8700040000", "d9d0", "dbe3", "9b", "41d99f00040000")
)


def vector_of(here: Interpreted, code: bytes) -> int | None:
    try:
        here.run(code)
    except GuestFault as fault:
        return fault.vector
    return None


@pytest.mark.parametrize("bit", [CR0_EM, CR0_TS])
def test_not_available(bit: int) -> None:
    here = Interpreted(TABLE)
    here.cpu.cr0 |= bit
    for code in (FADD, FLD_M64, FNOP, FNINIT):
        assert vector_of(here, code) == VECTOR_NM


@pytest.mark.parametrize(
    ("bits", "expected"), [(CR0_EM, None), (CR0_TS, None), (CR0_MP, None), (CR0_MP | CR0_TS, VECTOR_NM)]
)
def test_wait_looks_at_mp_and_ts(bits: int, expected: int | None) -> None:
    here = Interpreted(TABLE)
    here.cpu.cr0 = here.cpu.cr0 & ~(CR0_EM | CR0_TS | CR0_MP) | bits
    assert vector_of(here, FWAIT) == expected


def test_an_unmasked_exception_is_delivered_by_the_next_waiting_instruction() -> None:
    here = Interpreted(TABLE)
    fpu = here.cpu.fpu
    fpu.fcw = 0x37E  # invalid operation unmasked
    here.run(FADD)  # on an empty stack
    assert fpu.fsw == 0x80C1
    assert fpu.empty == 0xFF
    assert fpu.fop == 0x0C1
    assert vector_of(here, FADD) == VECTOR_MF
    assert vector_of(here, FWAIT) == VECTOR_MF
    assert vector_of(here, bytes.fromhex("dfe0")) is None  # fnstsw ax does not wait
    here.run(FNINIT)
    assert vector_of(here, FADD) is None


@pytest.mark.parametrize(("amd", "expected"), [(True, 0x587), (False, 0)])
def test_the_last_opcode_without_an_exception(amd: bool, expected: int) -> None:
    here = Interpreted(TABLE)
    here.cpu.amd = amd
    here.run(FLD_M64)
    assert here.cpu.fpu.fop == expected


def test_pointers_name_the_last_instruction_and_operand() -> None:
    here = Interpreted(TABLE)
    fpu = here.cpu.fpu
    here.run(FLD_M64)
    assert (fpu.ip, fpu.cs, fpu.dp) == (BASE, 8, BASE + SCRATCH)
    here.run(bytes.fromhex("41d9b720040000"))  # fnstenv [r15+0x420]
    image = bytes(here.ram[BASE + SCRATCH + 0x20 : BASE + SCRATCH + 0x20 + 28])
    assert image[12:16] == BASE.to_bytes(4, "little")
    assert image[20:24] == (BASE + SCRATCH).to_bytes(4, "little")
    assert fpu.fcw == 0x37F


def test_state_saved_is_state_restored() -> None:
    here, rng = Interpreted(TABLE), Random(8)
    fpu = here.cpu.fpu
    fpu.fcw, fpu.fsw, fpu.empty = 0x27F, 0x2800, 0b10010110
    fpu.regs[:] = [operand80(rng) for _ in range(8)]
    before = (fpu.fcw, fpu.fsw, fpu.empty, list(fpu.regs))
    here.run(bytes.fromhex("41ddb700040000"))  # fnsave
    assert (fpu.fcw, fpu.fsw, fpu.empty) == (0x37F, 0, 0xFF)
    here.run(bytes.fromhex("41dda700040000"))  # frstor
    assert (fpu.fcw, fpu.fsw, fpu.empty, fpu.regs) == before


@pytest.mark.parametrize(
    ("size", "protected", "expected"),
    [
        (28, True, "7f02ffff0028ffffffffffff785634120800c500efbeadde2300ffff"),
        (14, True, "7f020028ffff78560800efbe2300"),
        (28, False, "7f02ffff0028fffffffffffff856ffffc54023011fc1ffff00d0ea0d"),
        (14, False, "7f020028fffff856c5401fc100d0"),
    ],
)
def test_environment_layouts(size: int, protected: bool, expected: str) -> None:
    """SDM Vol. 1, figures 8-9 to 8-12; in real mode the pointers are linear addresses."""
    here = Interpreted(TABLE)
    fpu = here.cpu.fpu
    fpu.fcw, fpu.fsw, fpu.empty, fpu.fop = 0x27F, 0x2800, 0xFF, 0xC5
    fpu.ip, fpu.cs, fpu.dp, fpu.ds = 0x12345678, 8, 0xDEADBEEF, 0x23
    image = x87_control.environment(fpu, size, protected)
    assert len(image) == size
    assert image.hex() == expected
    x87_control.load_environment(fpu, image, protected)
    opcode = 0 if size == 14 and protected else 0xC5
    assert (fpu.fcw, fpu.fsw, fpu.empty, fpu.fop) == (0x27F, 0x2800, 0xFF, opcode)
    linear = (0x12345678 + (0 if protected else 0x80), 0xDEADBEEF + (0 if protected else 0x230))
    mask = 0xFFFFFFFF if size == 28 else 0xFFFF if protected else 0xFFFFF
    assert (fpu.ip, fpu.dp) == (linear[0] & mask, linear[1] & mask)


def test_a_faulting_store_pops_nothing() -> None:
    here = Interpreted(TABLE)
    fpu = here.cpu.fpu
    fpu.fsw, fpu.empty, fpu.regs[7] = 0x3800, 0x7F, 0x3FFF << 64 | 3 << 62 | 1
    here.cpu.r[15] = 1 << 63  # not canonical
    assert vector_of(here, FSTP_M32) is not None
    assert (fpu.fsw, fpu.empty) == (0x3800, 0x7F)
