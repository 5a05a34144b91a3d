"""Flags that the manual leaves undefined, so that processors may differ in them.

SDM Vol. 2A-2B, "Flags Affected" of each instruction, and Vol. 1, appendix A (EFLAGS cross-reference). The
lock-step comparison and the random tester do not look at these, unless asked to be strict.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from iced_x86 import Instruction, MemorySizeInfo, Mnemonic, OpKind, RegisterInfo

from minihv.x86.registers import (
    RFLAGS_AF,
    RFLAGS_ARITHMETIC,
    RFLAGS_CF,
    RFLAGS_OF,
    RFLAGS_PF,
    RFLAGS_SF,
    RFLAGS_ZF,
)

_SHIFT_COUNT = "undefined for some counts"


class Undefined(NamedTuple):
    """`flags` are undefined after the instruction; `when`, if given, narrows that: (count, bits) -> flags."""

    flags: int
    reference: str
    when: Callable[[int, int], int] | None = None


def _shift(count: int, bits: int) -> int:
    """OF is defined for counts of 1 only, AF never, CF not for SHL and SHR beyond the operand's size."""
    if not count:
        return 0
    flags = RFLAGS_AF
    if count != 1:
        flags |= RFLAGS_OF
    return flags | (RFLAGS_CF if count >= bits else 0)


def _rotate(count: int, bits: int) -> int:
    return RFLAGS_OF if count > 1 else 0


def _double_shift(count: int, bits: int) -> int:
    if not count:
        return 0
    if count > bits:
        return RFLAGS_ARITHMETIC
    return RFLAGS_AF | (RFLAGS_OF if count > 1 else 0)


_LOGIC = Undefined(RFLAGS_AF, "AND, OR, XOR, TEST: the state of the AF flag is undefined")
_BIT = Undefined(
    RFLAGS_OF | RFLAGS_SF | RFLAGS_AF | RFLAGS_PF, "BT, BTC, BTR, BTS: OF, SF, AF, PF are undefined"
)
_SCAN = Undefined(
    RFLAGS_ARITHMETIC & ~RFLAGS_ZF, "BSF, BSR: the CF, OF, SF, AF, and PF flags are undefined"
)  # fmt: skip
_COUNT_ZEROS = Undefined(
    RFLAGS_OF | RFLAGS_SF | RFLAGS_PF | RFLAGS_AF, "LZCNT, TZCNT: OF, SF, PF, and AF flags are undefined"
)  # fmt: skip
_MULTIPLY = Undefined(
    RFLAGS_SF | RFLAGS_ZF | RFLAGS_AF | RFLAGS_PF, "MUL, IMUL: the SF, ZF, AF, and PF flags are undefined"
)
_DIVIDE = Undefined(
    RFLAGS_ARITHMETIC, "DIV, IDIV: the CF, OF, SF, ZF, AF, and PF flags are undefined"
)  # fmt: skip
_SHIFTS = Undefined(
    RFLAGS_AF | RFLAGS_OF | RFLAGS_CF, "SAL, SAR, SHL, SHR: CF, OF and AF by count", _shift
)  # fmt: skip
_ROTATES = Undefined(RFLAGS_OF, "RCL, RCR, ROL, ROR: the OF flag is undefined for multi-bit rotates", _rotate)
_DOUBLE = Undefined(RFLAGS_ARITHMETIC, "SHLD, SHRD: by count; all where it exceeds the size", _double_shift)
_BLS = Undefined(RFLAGS_AF | RFLAGS_PF, "ANDN, BLSI, BLSMSK, BLSR, BZHI: AF and PF flags are undefined")

TABLE: Mapping[int, Undefined] = {
    Mnemonic.AND: _LOGIC, Mnemonic.OR: _LOGIC, Mnemonic.XOR: _LOGIC, Mnemonic.TEST: _LOGIC,
    Mnemonic.BT: _BIT, Mnemonic.BTC: _BIT, Mnemonic.BTR: _BIT, Mnemonic.BTS: _BIT,
    Mnemonic.BSF: _SCAN, Mnemonic.BSR: _SCAN, Mnemonic.LZCNT: _COUNT_ZEROS, Mnemonic.TZCNT: _COUNT_ZEROS,
    Mnemonic.MUL: _MULTIPLY, Mnemonic.IMUL: _MULTIPLY, Mnemonic.DIV: _DIVIDE, Mnemonic.IDIV: _DIVIDE,
    Mnemonic.SHL: _SHIFTS, Mnemonic.SAL: _SHIFTS, Mnemonic.SHR: _SHIFTS, Mnemonic.SAR: _SHIFTS,
    Mnemonic.ROL: _ROTATES, Mnemonic.ROR: _ROTATES, Mnemonic.RCL: _ROTATES, Mnemonic.RCR: _ROTATES,
    Mnemonic.SHLD: _DOUBLE, Mnemonic.SHRD: _DOUBLE,
    Mnemonic.ANDN: _BLS, Mnemonic.BLSI: _BLS, Mnemonic.BLSMSK: _BLS, Mnemonic.BLSR: _BLS,
    Mnemonic.BZHI: _BLS,
    Mnemonic.BEXTR: Undefined(RFLAGS_AF | RFLAGS_SF | RFLAGS_PF, "BEXTR: AF, SF, and PF are undefined"),
    Mnemonic.AAA: Undefined(
        RFLAGS_OF | RFLAGS_SF | RFLAGS_ZF | RFLAGS_PF, "AAA: the OF, SF, ZF, and PF flags are undefined"
    ),
    Mnemonic.AAS: Undefined(
        RFLAGS_OF | RFLAGS_SF | RFLAGS_ZF | RFLAGS_PF, "AAS: the OF, SF, ZF, and PF flags are undefined"
    ),
    Mnemonic.AAD: Undefined(
        RFLAGS_OF | RFLAGS_AF | RFLAGS_CF, "AAD: the OF, AF, and CF flags are undefined"
    ),
    Mnemonic.AAM: Undefined(
        RFLAGS_OF | RFLAGS_AF | RFLAGS_CF, "AAM: the OF, AF, and CF flags are undefined"
    ),
    Mnemonic.DAA: Undefined(RFLAGS_OF, "DAA: the OF flag is undefined"),
    Mnemonic.DAS: Undefined(RFLAGS_OF, "DAS: the OF flag is undefined"),
}  # fmt: skip


def undefined_flags(insn: Instruction, cl: int) -> int:
    """RFLAGS bits that `insn` leaves undefined, with CL as it was before."""
    row = TABLE.get(insn.mnemonic)
    if row is None:
        return 0
    if row.when is None:
        return row.flags
    bits = _operand_bits(insn)
    last = insn.op_count - 1
    count = cl if insn.op_kind(last) == OpKind.REGISTER else insn.immediate(last)
    return row.when(count & (63 if bits == 64 else 31), bits)


def _operand_bits(insn: Instruction) -> int:
    if insn.op_kind(0) == OpKind.REGISTER:
        return 8 * RegisterInfo(insn.op_register(0)).size
    return 8 * MemorySizeInfo(insn.memory_size).size
