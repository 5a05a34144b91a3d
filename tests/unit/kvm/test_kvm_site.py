"""Which instruction it was: bytes and registers around RIP, for both conventions of leaving RIP."""

import pytest
from iced_x86 import BlockEncoder, Code, Instruction, MemoryOperand, Register

from minihv.engine.kvm.site import BEFORE, ENCODING_ORDER, GPRS, RCX, RDI, RFLAGS, CodeSite

LINEAR = 0x10_0000


def registers(**values: int) -> bytes:
    """struct kvm_regs; names in lower case."""
    names = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
    regs = [0] * 18
    for name, value in values.items():
        place = {"rip": 16, "rflags": RFLAGS}.get(name)
        regs[ENCODING_ORDER[names.index(name)] if place is None else place] = value
    return GPRS.pack(*regs)


def site(
    before: str,
    after: str = "90 90",
    write: str = "port",
    size: int = 1,
    target: int = 0x3F8,
    *,
    emulated: bool = False,
    bits: int = 64,
    regs: bytes = bytes(GPRS.size),
    bases: tuple[int, ...] = (0,) * 6,
) -> int:
    """How far before RIP the instruction is found, for `before` | RIP | `after`."""
    head, tail = bytes.fromhex(before), bytes.fromhex(after)
    found = CodeSite(LINEAR, head + tail, len(head), bits, write, size, target, emulated, regs, bases)
    return LINEAR - found.address()


def test_a_read_is_where_rip_is() -> None:
    assert CodeSite(LINEAR).address() == LINEAR


PORT_CASES = [
    # RIP at the instruction: VT-x and AMD-V, plain OUT
    ("90 90", "ee 90", 1, 0x3F8, False, 0),
    ("90 90", "ef", 4, 0x3F8, False, 0),
    ("90 90", "66 ef", 2, 0x3F8, False, 0),
    ("90 90", "e6 80", 1, 0x80, False, 0),
    ("90 ee", "ee 90", 1, 0x3F8, False, 0),  # two in a row: the one at RIP
    # RIP behind it: KVM's emulator, all of ring 0 under PVM
    ("90 ee", "90 90", 1, 0x3F8, True, 1),
    ("90 ef", "90 90", 4, 0x3F8, True, 1),
    ("66 ef", "90 90", 2, 0x3F8, True, 2),
    ("90 e6 80", "90 90", 1, 0x80, True, 2),
    ("90 e7 80", "ee", 4, 0x80, True, 2),
    ("90 ee", "ee 90", 1, 0x3F8, True, 1),
    # RIP behind it although the engine prefers at: the last element of REP OUTS, and port 0x7e
    ("f3 6e", "90 90", 1, 0x3F8, False, 2),
    ("66 f3 6f", "90 90", 2, 0x510, False, 3),
    ("e6 7e", "90 90", 1, 0x7E, False, 2),
    # what only looks like it
    ("90 e6 81", "90 90", 1, 0x80, True, 0),  # another port
    ("90 ee", "90 90", 4, 0x3F8, True, 0),  # another width
    ("90 ef", "ee", 1, 0x3F8, True, 0),
    ("", "90", 1, 0x3F8, True, 0),
    ("", "", 1, 0x3F8, True, 0),
    ("ee", "", 1, 0x3F8, True, 1),
    ("90", "e6", 1, 0x80, False, 0),  # the immediate is on a page that cannot be read
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "size", "port", "emulated", "back"), PORT_CASES)
def test_port_output(before: str, after: str, size: int, port: int, emulated: bool, back: int) -> None:
    assert site(before, after, "port", size, port, emulated=emulated) == back


def test_an_unfinished_rep_outs_is_at_rip_even_behind_another_out() -> None:
    going_on, done = registers(rcx=5), registers(rcx=0)
    assert site("90 ee", "f3 6e", emulated=True, regs=going_on) == 0
    assert site("90 ee", "f3 6e", emulated=True, regs=done) == 1
    assert site("f3 6e", "f3 6e", emulated=True, regs=done) == 2


STORES = [
    # (bytes, size, registers, bits)
    ("c6 00 05", 1, registers(rax=0xB8000), 64),  # mov byte [rax], 5
    ("66 c7 43 02 34 12", 2, registers(rbx=0xB7FFE), 64),  # mov word [rbx+2], 0x1234
    ("89 04 8d 00 00 00 00", 4, registers(rcx=0x2E000), 64),  # mov [rcx*4], eax
    ("48 89 45 08", 8, registers(rbp=0xB7FF8), 64),  # mov [rbp+8], rax
    ("44 88 07", 1, registers(rdi=0xB8000), 64),  # mov [rdi], r8b
    ("43 89 04 01", 4, registers(r8=0x8000, r9=0xB0000), 64),  # mov [r9+r8], eax
    ("66 89 05 f9 7f fb ff", 2, registers(), 64),  # mov [rip-0x48007], ax
    ("aa", 1, registers(rdi=0xB8001), 64),  # stosb has moved RDI
    ("aa", 1, registers(rdi=0xB7FFF, rflags=0x400), 64),  # and down with DF
    ("f3 ab", 4, registers(rdi=0xB8004), 64),  # the last element of rep stosd
    ("a4", 1, registers(rdi=0xB8001, rsi=0x5000), 64),  # movsb
    ("a3 00 80 0b 00", 4, registers(), 32),  # mov [0xb8000], eax
    ("83 08 01", 4, registers(rax=0xB8000), 64),  # or dword [rax], 1: a read, then this write
    ("0f 29 00", 8, registers(rax=0xB8000), 64),  # movaps [rax], xmm0: first half of 16 bytes
    ("0f 11 40 f8", 8, registers(rax=0xB8000), 64),  # movups [rax-8], xmm0: second half
]  # fmt: skip


@pytest.mark.parametrize(("code", "size", "regs", "bits"), STORES)
@pytest.mark.parametrize("padding", ["90", "66", "48", "f3", "b8", "00", "c7 05 c6", "0f", "2e"])
def test_a_store_is_found_whatever_stands_before_it(
    code: str, size: int, regs: bytes, bits: int, padding: str
) -> None:
    """Padding that is a redundant prefix of the very same store may be taken for part of it."""
    length = len(bytes.fromhex(code))
    found = site(f"90 90 90 {padding} {code}", "90", "mmio", size, 0xB8000, bits=bits, regs=regs)
    assert found == length or (padding in ("66", "48", "f3", "2e") and found == length + 1)


def test_segment_bases_count_outside_64_bit_mode() -> None:
    regs, bases = registers(rdi=0x10), (0xB8000, 0, 0, 0x500, 0, 0)
    # mov [es:di], al in 16-bit mode against mov [di], al
    assert site("26 88 05", "90", "mmio", 1, 0xB8010, bits=16, regs=regs, bases=bases) == 3
    assert site("88 05", "90", "mmio", 1, 0x510, bits=16, regs=regs, bases=bases) == 2
    assert site("64 c6 00 01", "90", "mmio", 1, 0x20, regs=bytes(GPRS.size), bases=(0, 0, 0, 0, 0x20, 0)) == 4


def test_of_two_stores_the_operand_decides() -> None:
    """The bytes of one store end like another, shorter one."""
    # c7 40 04 imm32 where the immediate is 88 07 in its last bytes: mov [rdi], al
    code = "c7 40 04 11 22 88 07"
    assert site(code, "90", "mmio", 4, 0xB8004, regs=registers(rax=0xB8000, rdi=0x1230)) == 7
    assert site(code, "90", "mmio", 1, 0xB8000, regs=registers(rax=0x7777, rdi=0xB8000)) == 2


def test_an_unfinished_rep_stos_is_at_rip() -> None:
    at = registers(rdi=0xB8004, rcx=3)
    assert site("c6 00 05", "f3 aa", "mmio", 1, 0xB8003, regs=at) == 0
    assert site("c6 00 05", "f3 aa", "mmio", 1, 0xB8000, regs=registers(rax=0xB8000, rdi=0xB8004, rcx=3)) == 3
    down = registers(rdi=0xB8002, rcx=3, rflags=0x400)
    assert site("90 90", "f3 aa", "mmio", 1, 0xB8003, regs=down) == 0
    in_16_bit = registers(rdi=0x4, rcx=3)
    assert (
        site("90", "f3 aa", "mmio", 1, 0xB8003, bits=16, regs=in_16_bit, bases=(0xB8000, 0, 0, 0, 0, 0)) == 0
    )


def test_nothing_that_stores_leaves_rip() -> None:
    assert site("90 90 90", "90", "mmio", 4, 0xB8000) == 0
    assert site("", "", "mmio", 4, 0xB8000) == 0


M, R = MemoryOperand, Register
FORMS = [
    (Instruction.create_mem_i32(Code.MOV_RM64_IMM32, M(R.R12, R.R13, 8, 0x1234, 8), -5), 8, 0x6334),
    (Instruction.create_mem_reg(Code.MOV_RM8_R8, M(R.RSP, R.NONE, 1, 0x40, 1), R.SIL), 1, 0x9040),
    (Instruction.create_mem_reg(Code.XCHG_RM32_R32, M(R.R15), R.EDX), 4, 0xD000),
    (Instruction.create_mem(Code.INC_RM16, M(R.R11, R.NONE, 1, -8, 1)), 2, 0x800),
]


@pytest.mark.parametrize(("instruction", "size", "target"), FORMS, ids=str)
def test_stores_of_every_addressing_form(instruction: Instruction, size: int, target: int) -> None:
    encoder = BlockEncoder(64)
    encoder.add(instruction)
    code = encoder.encode(0)
    regs = registers(r12=0x5000, r13=0x20, rsp=0x9000, r15=0xD000, r11=0x808)
    before = b"\x90" * (BEFORE - len(code)) + code
    assert site(before.hex(), "90", "mmio", size, target, regs=regs) == len(code)


def test_rcx_and_rdi_are_where_struct_kvm_regs_has_them() -> None:
    regs = GPRS.unpack(registers(rcx=7, rdi=9))
    assert (regs[RCX], regs[RDI]) == (7, 9)
