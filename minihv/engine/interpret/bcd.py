"""Decimal adjustments, outside 64-bit mode only (SDM Vol. 2A: AAA, AAS, DAA, DAS). AAM, AAD: see `muldiv`."""

from minihv.engine.interpret.cpu import RAX
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.flags import PARITY, from_word
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table

_CF, _AF = 0x01, 0x10


def _result_flags(value: int) -> int:
    """PF, ZF and SF of a byte."""
    return PARITY[value] << 2 | (0 if value else 0x40) | value & 0x80


def ascii_adjust(sign: int) -> Builder:
    """AAA (`sign` +1), AAS (-1): AX as a whole moves by 0x106."""

    def build(s: Site) -> Op:
        cpu, r = s.cpu, s.cpu.r

        def op() -> None:
            word = cpu.arith()
            ax = r[RAX] & 0xFFFF
            if ax & 0xF > 9 or word & _AF:
                ax = ax + sign * 0x106 & 0xFFFF
                word = _AF | _CF
            else:
                word = 0
            ax &= 0xFF0F
            r[RAX] = r[RAX] & ~0xFFFF | ax
            cpu.fl = from_word(word | _result_flags(ax & 0xFF))

        return op

    return build


def decimal_adjust(sign: int) -> Builder:
    """DAA (`sign` +1), DAS (-1)."""

    def build(s: Site) -> Op:
        cpu, r = s.cpu, s.cpu.r

        def op() -> None:
            word = cpu.arith()
            old = al = r[RAX] & 0xFF
            carry, out = word & _CF, 0
            if al & 0xF > 9 or word & _AF:
                wide = al + sign * 6
                out = _AF | carry | (_CF if wide & ~0xFF else 0)
                al = wide & 0xFF
            if old > 0x99 or carry:
                al = al + sign * 0x60 & 0xFF
                out |= _CF
            elif sign > 0:
                out &= ~_CF
            r[RAX] = r[RAX] & ~0xFF | al
            cpu.fl = from_word(out | _result_flags(al))

        return op

    return build


M = Mnemonic

TABLE: Table = {
    M.AAA: ascii_adjust(1), M.AAS: ascii_adjust(-1), M.DAA: decimal_adjust(1), M.DAS: decimal_adjust(-1),
}  # fmt: skip
