"""Shifts and rotates (SDM Vol. 2B: SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD; 2D: RORX, SARX ...).

A count of zero (after masking) changes no flag. OF, defined for a count of one only, is what the last
single-bit step leaves, as on current processors; AF is set by shifts there.
"""

from collections.abc import Callable

from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.flags import CARRY_AF as CARRY
from minihv.engine.interpret.flags import MASKS, SIGNS, Rule, from_word
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table

_CF_OF = 0x801

Shift = Callable[[int, int, int, int], tuple[int, int, int]]
"""(value, count 1..63, operand bits, mask) -> (result, CF, OF)"""


def _shl(a: int, n: int, bits: int, mask: int) -> tuple[int, int, int]:
    wide = a << n
    c = wide & mask
    cf = wide >> bits & 1
    return c, cf, cf ^ c >> bits - 1


def _shr(a: int, n: int, bits: int, mask: int) -> tuple[int, int, int]:
    c = a >> n
    return c, a >> n - 1 & 1, (c ^ c << 1) >> bits - 1 & 1 if n > 1 else a >> bits - 1


def _sar(a: int, n: int, bits: int, mask: int) -> tuple[int, int, int]:
    sign = 1 << bits - 1
    signed = (a ^ sign) - sign
    return signed >> n & mask, signed >> n - 1 & 1, 0


def shift(compute: Shift) -> Builder:
    """SHL/SAL, SHR, SAR by 1, imm8 or CL."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        bits, mask = 8 * size, MASKS[size]
        count_mask = 63 if size == 8 else 31
        rule: Rule = CARRY[size]
        if s.is_imm(1):
            count = s.insn.immediate(1) & count_mask
            if s.is_reg(0) and size >= 4:
                r, d = cpu.r, s.gpr(0)
                if not count:
                    return _touch(s)

                def shift_reg() -> None:
                    c, cf, of = compute(r[d] & mask, count, bits, mask)
                    r[d] = c
                    cpu.fl = (rule, cf, of, c)

                return shift_reg

            def get_count() -> int:
                return count
        else:
            read_count = s.reader(1)

            def get_count() -> int:
                return read_count() & count_mask

        read, write = s.modify(0)

        def op() -> None:
            n = get_count()
            a = read()
            if n:
                c, cf, of = compute(a, n, bits, mask)
                write(c)
                cpu.fl = (rule, cf, of, c)
            else:
                write(a)

        return op

    return build


def _touch(s: Site) -> Op:
    """Count zero: nothing but the zero-extension of a 32-bit register."""
    read, write = s.reader(0), s.writer(0)
    return lambda: write(read())


def rotate(left: bool) -> Builder:
    """ROL and ROR: CF and OF only."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        bits, mask = 8 * size, MASKS[size]
        count_mask = 63 if size == 8 else 31
        (read, write), count = s.modify(0), s.reader(1)

        def op() -> None:
            n = count() & count_mask
            a = read()
            if not n:
                write(a)
                return
            k = n % bits
            if not left:
                k = -k % bits
            c = (a << k | a >> bits - k) & mask
            write(c)
            top = c >> bits - 1
            if left:
                cf = c & 1
                of = top ^ cf
            else:
                cf = top
                of = top ^ c >> bits - 2 & 1
            cpu.fl = from_word(cpu.arith() & ~_CF_OF | cf | of << 11)

        return op

    return build


def rotate_carry(left: bool) -> Builder:
    """RCL and RCR: through CF, so modulo one more than the operand's bits."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        bits, mask = 8 * size, MASKS[size]
        count_mask = 63 if size == 8 else 31
        (read, write), count = s.modify(0), s.reader(1)
        wide_mask = (1 << bits + 1) - 1

        def op() -> None:
            asked = count() & count_mask
            a = read()
            if not asked:
                write(a)
                return
            n = asked % (bits + 1)
            wide = a | cpu.cf() << bits
            k = n if left else bits + 1 - n
            wide = (wide << k | wide >> bits + 1 - k) & wide_mask
            c, cf = wide & mask, wide >> bits
            write(c)
            top = c >> bits - 1
            of = top ^ cf if left else top ^ c >> bits - 2 & 1
            cpu.fl = from_word(cpu.arith() & ~_CF_OF | cf | of << 11)

        return op

    return build


def double(left: bool) -> Builder:
    """SHLD and SHRD. Shifting 16 bits by more than 16 is undefined: AMD goes on with the second operand
    again, Intel with the first."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        bits, mask = 8 * size, MASKS[size]
        count_mask = 63 if size == 8 else 31
        (read, write), source, count = s.modify(0), s.reader(1), s.reader(2)
        rule = CARRY[size]

        def op() -> None:
            n = count() & count_mask
            a, b = read(), source()
            if not n:
                write(a)
                return
            again = b if cpu.amd else a
            if left:
                wide = (a << bits | b) << bits | again
                c = wide << n >> 2 * bits & mask
                cf = wide >> 3 * bits - n & 1 if n <= bits else 0
                of = cf ^ c >> bits - 1 if n <= bits else 0
            else:
                wide = (again << bits | b) << bits | a
                c = wide >> n & mask
                cf = wide >> n - 1 & 1 if n <= bits else 0
                of = (c >> bits - 1) ^ (c >> bits - 2 & 1)
            write(c)
            cpu.fl = (rule, cf, of, c)

        return op

    return build


def bmi_shift(compute: Callable[[int, int, int], int]) -> Builder:
    """SHLX, SHRX, SARX, RORX: no flags. `compute(value, count, bits)`, cut afterwards."""

    def build(s: Site) -> Op:
        size = s.size(0)
        read, count, write, mask = s.reader(1), s.reader(2), s.writer(0), MASKS[size]
        bits = 8 * size
        return lambda: write(compute(read(), count() & bits - 1, bits) & mask)

    return build


def _sarx(a: int, n: int, bits: int) -> int:
    sign = SIGNS[bits // 8]
    return (a ^ sign) - sign >> n


M = Mnemonic

TABLE: Table = {
    M.SHL: shift(_shl), M.SAL: shift(_shl), M.SHR: shift(_shr), M.SAR: shift(_sar),
    M.ROL: rotate(True), M.ROR: rotate(False), M.RCL: rotate_carry(True), M.RCR: rotate_carry(False),
    M.SHLD: double(True), M.SHRD: double(False),
    M.SHLX: bmi_shift(lambda a, n, bits: a << n), M.SHRX: bmi_shift(lambda a, n, bits: a >> n),
    M.SARX: bmi_shift(_sarx), M.RORX: bmi_shift(lambda a, n, bits: a >> n | a << bits - n),
}  # fmt: skip
