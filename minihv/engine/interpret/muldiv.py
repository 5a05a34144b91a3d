"""Multiplication and division (SDM Vol. 2A: DIV, IDIV, IMUL, MUL; Vol. 2D: MULX).

Undefined flags are left as current AMD processors leave them: multiplication touches CF and OF only,
division sets AF and clears PF, ZF and SF.
"""

from minihv.engine.interpret.cpu import RAX, RDX
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.faults import GuestFault
from minihv.engine.interpret.flags import LOGIC, MASKS, SIGNS, from_word
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Table
from minihv.x86.registers import VECTOR_DE

_CF_OF = 0x801
_AF, _PF_ZF_SF = 0x10, 0xC4


def _high_low(r: list[int], size: int, value: int) -> None:
    """`value` of 2*size bytes into AX (size 1) or (E/R)DX:(E/R)AX."""
    if size == 1:
        r[RAX] = r[RAX] & ~0xFFFF | value
    elif size == 2:
        r[RAX] = r[RAX] & ~0xFFFF | value & 0xFFFF
        r[RDX] = r[RDX] & ~0xFFFF | value >> 16
    else:
        r[RAX], r[RDX] = value & MASKS[size], value >> 8 * size


def mul(s: Site) -> Op:
    cpu, r, size = s.cpu, s.cpu.r, s.size(0)
    read, mask = s.reader(0), MASKS[size]

    def op() -> None:
        product = (r[RAX] & mask) * read()
        _high_low(r, size, product)
        cpu.fl = from_word(cpu.arith() & ~_CF_OF | (_CF_OF if product > mask else 0))

    return op


def imul(s: Site) -> Op:
    """The one-, two- and three-operand forms."""
    cpu, r, size, operands = s.cpu, s.cpu.r, s.size(0), s.insn.op_count
    sign, mask = SIGNS[size], MASKS[size]
    if operands == 1:
        read = s.reader(0)

        def wide() -> None:
            product = ((r[RAX] & mask ^ sign) - sign) * ((read() ^ sign) - sign)
            _high_low(r, size, product & (1 << 16 * size) - 1)
            over = not -sign <= product < sign
            cpu.fl = from_word(cpu.arith() & ~_CF_OF | (_CF_OF if over else 0))

        return wide
    left, right, write = s.reader(operands - 2), s.reader(operands - 1), s.writer(0)

    def op() -> None:
        product = ((left() ^ sign) - sign) * ((right() ^ sign) - sign)
        write(product & mask)
        over = not -sign <= product < sign
        cpu.fl = from_word(cpu.arith() & ~_CF_OF | (_CF_OF if over else 0))

    return op


def _dividend(r: list[int], size: int) -> int:
    mask = MASKS[size]
    return r[RAX] & 0xFFFF if size == 1 else (r[RDX] & mask) << 8 * size | r[RAX] & mask


def _store_quotient(r: list[int], size: int, quotient: int, remainder: int) -> None:
    mask = MASKS[size]
    quotient &= mask
    remainder &= mask
    if size == 1:
        r[RAX] = r[RAX] & ~0xFFFF | remainder << 8 | quotient
    elif size == 2:
        r[RAX] = r[RAX] & ~0xFFFF | quotient
        r[RDX] = r[RDX] & ~0xFFFF | remainder
    else:
        r[RAX], r[RDX] = quotient, remainder


def div(s: Site) -> Op:
    cpu, r, size = s.cpu, s.cpu.r, s.size(0)
    read, mask = s.reader(0), MASKS[size]

    def op() -> None:
        divisor = read()
        if not divisor:
            raise GuestFault(VECTOR_DE)
        quotient, remainder = divmod(_dividend(r, size), divisor)
        if quotient > mask:
            raise GuestFault(VECTOR_DE)
        _store_quotient(r, size, quotient, remainder)
        cpu.fl = from_word(cpu.arith() & ~_PF_ZF_SF | _AF)

    return op


def idiv(s: Site) -> Op:
    """IDIV truncates towards zero; the remainder has the dividend's sign."""
    cpu, r, size = s.cpu, s.cpu.r, s.size(0)
    read, sign = s.reader(0), SIGNS[size]
    wide_sign = 1 << 16 * size - 1

    def op() -> None:
        divisor = (read() ^ sign) - sign
        if not divisor:
            raise GuestFault(VECTOR_DE)
        dividend = (_dividend(r, size) ^ wide_sign) - wide_sign
        quotient = abs(dividend) // abs(divisor)
        if (dividend < 0) != (divisor < 0):
            quotient = -quotient
        if not -sign <= quotient < sign:
            raise GuestFault(VECTOR_DE)
        _store_quotient(r, size, quotient, dividend - quotient * divisor)
        cpu.fl = from_word(cpu.arith() & ~_PF_ZF_SF | _AF)

    return op


def mulx(s: Site) -> Op:
    """MULX: no flags; where both destinations are one register it gets the high half."""
    r, size = s.cpu.r, s.size(0)
    high, low, read, mask = s.writer(0), s.writer(1), s.reader(2), MASKS[size]

    def op() -> None:
        product = (r[RDX] & mask) * read()
        low(product & mask)
        high(product >> 8 * size)

    return op


def adjust_multiply(s: Site) -> Op:
    """AAM: AL / imm8; #DE for zero."""
    cpu, r, base = s.cpu, s.cpu.r, s.insn.immediate(0) & 0xFF

    def op() -> None:
        if not base:
            raise GuestFault(VECTOR_DE)
        tens, ones = divmod(r[RAX] & 0xFF, base)
        r[RAX] = r[RAX] & ~0xFFFF | tens << 8 | ones
        cpu.fl = (LOGIC[1], 0, 0, ones)

    return op


def adjust_divide(s: Site) -> Op:
    """AAD: AL + AH * imm8, AH cleared."""
    cpu, r, base = s.cpu, s.cpu.r, s.insn.immediate(0) & 0xFF

    def op() -> None:
        value = (r[RAX] & 0xFF) + (r[RAX] >> 8 & 0xFF) * base & 0xFF
        r[RAX] = r[RAX] & ~0xFFFF | value
        cpu.fl = (LOGIC[1], 0, 0, value)

    return op


M = Mnemonic
TABLE: Table = {
    M.MUL: mul, M.IMUL: imul, M.DIV: div, M.IDIV: idiv, M.MULX: mulx,
    M.AAM: adjust_multiply, M.AAD: adjust_divide,
}  # fmt: skip
