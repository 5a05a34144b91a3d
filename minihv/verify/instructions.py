"""A random instance of any instruction the decoder knows: registers, addresses, immediates, prefixes."""

from random import Random
from typing import Any, NamedTuple, cast

from iced_x86 import Decoder, DecoderOptions, Encoder, Instruction, OpCodeInfo, OpKind, Register
from iced_x86 import OpCodeOperandKind as Kind

from minihv.verify.targets import SELECTORS, special_int, target

MAX_LENGTH = 15
_REGISTERS: dict[int, tuple[int, int]] = {
    Kind.R8_REG: (Register.AL, 20), Kind.R8_OPCODE: (Register.AL, 20), Kind.R8_OR_MEM: (Register.AL, 20),
    Kind.R16_REG: (Register.AX, 16), Kind.R16_OPCODE: (Register.AX, 16), Kind.R16_RM: (Register.AX, 16),
    Kind.R16_OR_MEM: (Register.AX, 16), Kind.R16_REG_MEM: (Register.AX, 16),
    Kind.R32_REG: (Register.EAX, 16), Kind.R32_OPCODE: (Register.EAX, 16), Kind.R32_RM: (Register.EAX, 16),
    Kind.R32_VVVV: (Register.EAX, 16), Kind.R32_OR_MEM: (Register.EAX, 16),
    Kind.R32_REG_MEM: (Register.EAX, 16),
    Kind.R64_REG: (Register.RAX, 16), Kind.R64_OPCODE: (Register.RAX, 16), Kind.R64_RM: (Register.RAX, 16),
    Kind.R64_VVVV: (Register.RAX, 16), Kind.R64_OR_MEM: (Register.RAX, 16),
    Kind.R64_REG_MEM: (Register.RAX, 16),
    Kind.XMM_REG: (Register.XMM0, 16), Kind.XMM_RM: (Register.XMM0, 16), Kind.XMM_VVVV: (Register.XMM0, 16),
    Kind.XMM_OR_MEM: (Register.XMM0, 16),
    Kind.MM_REG: (Register.MM0, 8), Kind.MM_RM: (Register.MM0, 8), Kind.MM_OR_MEM: (Register.MM0, 8),
    Kind.STI_OPCODE: (Register.ST0, 8), Kind.SEG_REG: (Register.ES, 6), Kind.CR_REG: (Register.CR0, 16),
    Kind.DR_REG: (Register.DR0, 8),
}  # fmt: skip
"""Operand kind -> (first register, how many to choose from); with 32-bit code the upper half is left out."""
_OR_MEMORY = frozenset((
    Kind.R8_OR_MEM, Kind.R16_OR_MEM, Kind.R32_OR_MEM, Kind.R64_OR_MEM, Kind.XMM_OR_MEM, Kind.MM_OR_MEM,
    Kind.MEM,
))  # fmt: skip
_FIXED: dict[int, int] = {
    Kind.AL: Register.AL, Kind.AX: Register.AX, Kind.EAX: Register.EAX, Kind.RAX: Register.RAX,
    Kind.CL: Register.CL, Kind.DX: Register.DX, Kind.ST0: Register.ST0, Kind.ES: Register.ES,
    Kind.CS: Register.CS, Kind.SS: Register.SS, Kind.DS: Register.DS, Kind.FS: Register.FS,
    Kind.GS: Register.GS,
}  # fmt: skip
_IMMEDIATES: dict[int, tuple[int, int]] = {
    Kind.IMM8: (OpKind.IMMEDIATE8, 8), Kind.IMM16: (OpKind.IMMEDIATE16, 16),
    Kind.IMM32: (OpKind.IMMEDIATE32, 32), Kind.IMM64: (OpKind.IMMEDIATE64, 64),
    Kind.IMM8SEX16: (OpKind.IMMEDIATE8TO16, 8), Kind.IMM8SEX32: (OpKind.IMMEDIATE8TO32, 8),
    Kind.IMM8SEX64: (OpKind.IMMEDIATE8TO64, 8), Kind.IMM32SEX64: (OpKind.IMMEDIATE32TO64, 32),
}  # fmt: skip
"""Operand kind -> (how to say it, bits that are free)."""
_BRANCHES: dict[int, tuple[int, int]] = {
    Kind.BR16_1: (OpKind.NEAR_BRANCH16, 7), Kind.BR16_2: (OpKind.NEAR_BRANCH16, 15),
    Kind.BR32_1: (OpKind.NEAR_BRANCH32, 7), Kind.BR32_4: (OpKind.NEAR_BRANCH32, 24),
    Kind.BR64_1: (OpKind.NEAR_BRANCH64, 7), Kind.BR64_4: (OpKind.NEAR_BRANCH64, 24),
}  # fmt: skip
"""Operand kind -> (how to say it, bits of the distance)."""
_BRANCH_MASKS: dict[int, int] = {
    OpKind.NEAR_BRANCH16: 0xFFFF, OpKind.NEAR_BRANCH32: 0xFFFFFFFF, OpKind.NEAR_BRANCH64: (1 << 64) - 1,
}  # fmt: skip
_STRINGS: dict[int, dict[int, int]] = {
    Kind.SEG_RSI: {16: OpKind.MEMORY_SEG_SI, 32: OpKind.MEMORY_SEG_ESI, 64: OpKind.MEMORY_SEG_RSI},
    Kind.SEG_RDI: {16: OpKind.MEMORY_SEG_DI, 32: OpKind.MEMORY_SEG_EDI, 64: OpKind.MEMORY_SEG_RDI},
    Kind.ES_RDI: {16: OpKind.MEMORY_ESDI, 32: OpKind.MEMORY_ESEDI, 64: OpKind.MEMORY_ESRDI},
}
_BASES16 = (
    (Register.BX, Register.SI), (Register.BX, Register.DI), (Register.BP, Register.SI),
    (Register.BP, Register.DI), (Register.SI, Register.NONE), (Register.DI, Register.NONE),
    (Register.BP, Register.NONE), (Register.BX, Register.NONE),
)  # fmt: skip
"""SDM Vol. 2A, table 2-1."""
_PREFIXES = (0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0xF0)


class Encoded(NamedTuple):
    """Bytes of one instruction, and what the decoder makes of them."""

    raw: bytes
    insn: Instruction


def instance(code: int, bits: int, ip: int, rng: Random) -> Encoded | None:
    """A random instance of iced-x86 `code` at `ip`; None where these operands cannot be encoded."""
    info: Any = OpCodeInfo(cast(Any, code))
    insn: Any = Instruction()
    insn.code = code
    address = _address_size(info, bits, rng)
    memory = rng.random() < 0.6
    high = rng.random() < 0.15  # AH..BH exclude REX, so the choice is one for all operands
    for n in range(info.op_count):
        _operand(insn, n, info.op_kind(n), _Choice(bits, address, ip, memory, high, rng))
    try:
        encoder = Encoder(bits)
        encoder.encode(insn, ip)
        raw = encoder.take_buffer()
    except ValueError:
        return None
    return decode(_prefixed(raw, info, rng), bits, ip)


def decode(raw: bytes, bits: int, ip: int) -> Encoded | None:
    """What the first bytes of `raw` are, as AMD processors see it; None if they are no instruction."""
    insn = Decoder(bits, raw[:MAX_LENGTH], DecoderOptions.AMD, ip=ip).decode()
    return None if insn.is_invalid else Encoded(raw[: insn.len], insn)


class _Choice(NamedTuple):
    bits: int
    address: int
    ip: int
    memory: bool
    high: bool
    rng: Random


def _address_size(info: Any, bits: int, rng: Random) -> int:
    if info.address_size:
        return int(info.address_size)
    return bits if rng.random() < 0.85 else bits // 2


def _operand(insn: Any, n: int, kind: int, c: _Choice) -> None:
    rng = c.rng
    if kind in _OR_MEMORY and (c.memory or kind == Kind.MEM):
        insn.set_op_kind(n, OpKind.MEMORY)
        _address(insn, c)
    elif kind in _REGISTERS:
        insn.set_op_register(n, _register(kind, c))
    elif kind in _FIXED:
        insn.set_op_register(n, _FIXED[kind])
    elif kind in _IMMEDIATES:
        how, free = _IMMEDIATES[kind]
        if n and insn.op_kind(0) == OpKind.IMMEDIATE16:
            how = OpKind.IMMEDIATE8_2ND  # ENTER
        insn.set_op_kind(n, how)
        value = special_int(rng, free)
        if how >= OpKind.IMMEDIATE8TO16 and value >> free - 1:
            value |= -1 << free
        insn.set_immediate_i64(n, value - (1 << 64) if value >> 63 == 1 else value)
    elif kind == Kind.IMM8_CONST_1:
        insn.set_op_kind(n, OpKind.IMMEDIATE8)
        insn.immediate8 = 1
    elif kind in _BRANCHES:
        how, free = _BRANCHES[kind]
        insn.set_op_kind(n, how)
        to = c.ip + rng.randrange(-(1 << free) + 16, (1 << free) - 16)
        insn.near_branch64 = to & _BRANCH_MASKS[how]
    elif kind in _STRINGS:
        insn.set_op_kind(n, _STRINGS[kind][c.address])
    elif kind == Kind.SEG_RBX_AL:
        insn.set_op_kind(n, OpKind.MEMORY)
        insn.memory_base = {16: Register.BX, 32: Register.EBX, 64: Register.RBX}[c.address]
        insn.memory_index = Register.AL
    elif kind == Kind.MEM_OFFS:
        insn.set_op_kind(n, OpKind.MEMORY)
        insn.memory_displ_size = c.address // 8
        insn.memory_displacement = target(rng, 16) & (1 << c.address) - 1
    elif kind in (Kind.FARBR2_2, Kind.FARBR4_2):
        insn.set_op_kind(n, OpKind.FAR_BRANCH16 if kind == Kind.FARBR2_2 else OpKind.FAR_BRANCH32)
        insn.far_branch_selector = rng.choice(SELECTORS)
        if kind == Kind.FARBR2_2:
            insn.far_branch16 = rng.getrandbits(16)
        else:
            insn.far_branch32 = c.ip + rng.randrange(64)
    else:
        raise AssertionError(f"operand kind {kind} of {insn.code} is not known here")


def _register(kind: int, c: _Choice) -> int:
    first, count = _REGISTERS[kind]
    if first == Register.AL:
        return _byte_register(c)
    if c.bits != 64 and count == 16:
        count = 8
    return first + c.rng.randrange(count)


def _byte_register(c: _Choice) -> int:
    if c.high:
        return Register.AL + c.rng.randrange(8)
    if c.bits != 64:
        return Register.AL + c.rng.randrange(4)
    return int(c.rng.choice((*range(Register.AL, Register.AL + 4), *range(Register.SPL, Register.SPL + 12))))


def _address(insn: Any, c: _Choice) -> None:
    rng = c.rng
    if c.address == 16:
        if rng.random() < 0.1:
            insn.memory_displ_size = 2
            insn.memory_displacement = target(rng, 16) & 0xFFFF
            return
        insn.memory_base, insn.memory_index = rng.choice(_BASES16)
        insn.memory_displ_size = rng.choice((0, 1, 2))
        insn.memory_displacement = _displacement(rng, insn.memory_displ_size, 16)
        return
    first = Register.RAX if c.address == 64 else Register.EAX
    count = 16 if c.bits == 64 else 8
    shape = rng.random()
    if shape < 0.06 and c.bits == 64:
        insn.memory_base = Register.RIP if c.address == 64 else Register.EIP
        insn.memory_displ_size = c.address // 8
        insn.memory_displacement = target(rng, 16)
        return
    if shape < 0.1:
        insn.memory_displ_size = c.address // 8
        insn.memory_displacement = target(rng, 16) & 0x7FFFFFFF
        return
    insn.memory_base = first + rng.randrange(count)
    if shape < 0.5:
        index = rng.randrange(count)
        if index != 4:  # RSP is no index
            insn.memory_index = first + index
            insn.memory_index_scale = rng.choice((1, 2, 4, 8))
    size = rng.choice((0, 1, c.address // 8))
    insn.memory_displ_size = size
    insn.memory_displacement = _displacement(rng, size, c.address)


def _displacement(rng: Random, size: int, bits: int) -> int:
    if not size:
        return 0
    value = rng.randrange(-128, 128) if size == 1 else rng.randrange(-30000, 30000)
    return value & (1 << bits) - 1


def _prefixed(raw: bytes, info: Any, rng: Random) -> bytes:
    """With a prefix or two that may mean something, nothing, or #UD."""
    choice = rng.random()
    if info.can_use_lock_prefix and choice < 0.3:
        return b"\xf0" + raw
    if (info.can_use_rep_prefix or info.can_use_repne_prefix) and choice < 0.6:
        return (b"\xf3" if rng.random() < 0.6 or not info.can_use_repne_prefix else b"\xf2") + raw
    if choice > 0.88:
        for _ in range(rng.choice((1, 1, 2))):
            raw = bytes((rng.choice(_PREFIXES),)) + raw
    return raw
