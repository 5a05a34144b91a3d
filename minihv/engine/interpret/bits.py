"""Bit tests, scans, counts, and BMI1/BMI2 (SDM Vol. 2A-2D).

Undefined flags as current AMD processors leave them: BT family touches CF only; scans and BMI set PF from
the result and clear AF (BEXTR sets AF); LZCNT and TZCNT keep OF.
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import M16, M32, M64
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.flags import CARRY as CF_RULE
from minihv.engine.interpret.flags import LOGIC, MASKS, PARITY, SIGNS, from_word
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table

_WIDTHS = {2: M16, 4: M32, 8: M64}


def bit_test(change: Callable[[int, int], int] | None) -> Builder:
    """BT (None), BTS, BTR, BTC. A register index into memory may reach outside the operand."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        bits = 8 * size
        if s.is_mem(0) and s.is_reg(1):
            return _in_bit_string(s, change)
        index = s.reader(1)
        if change is None:
            plain = s.reader(0)

            def test() -> None:
                cpu.fl = from_word(cpu.arith() & ~1 | plain() >> (index() & bits - 1) & 1)

            return test
        read, write = s.modify(0)

        def op() -> None:
            n = index() & bits - 1
            a = read()
            write(change(a, 1 << n))
            cpu.fl = from_word(cpu.arith() & ~1 | a >> n & 1)

        return op

    return build


def _in_bit_string(s: Site, change: Callable[[int, int], int] | None) -> Op:
    """Memory operand with a register index: the unit that holds the (signed) bit is accessed."""
    cpu, size = s.cpu, s.size(0)
    bits, sign = 8 * size, SIGNS[size]
    index, offset = s.reader(1), s.offset()
    displaced = 0

    def unit_offset() -> int:
        return offset() + displaced

    write = change is not None
    address = s.linear(unit_offset, s.segment(), size, write, _WIDTHS[s.address_size()])
    load = s.rw(size) if write else s.ld(size)
    st = s.st(size)

    def op() -> None:
        nonlocal displaced
        n = (index() ^ sign) - sign
        displaced = (n >> bits.bit_length() - 1) * size
        at = address()
        a = load(at)
        bit = n & bits - 1
        if change is not None:
            st(at, change(a, 1 << bit))
        cpu.fl = from_word(cpu.arith() & ~1 | a >> bit & 1)

    return op


def scan(forward: bool) -> Builder:
    """BSF and BSR: with a zero source ZF is set and the destination stays."""

    def build(s: Site) -> Op:
        cpu = s.cpu
        rule, read, write, keep = LOGIC[s.size(0)], s.reader(1), s.writer(0), s.reader(0)
        narrow = s.size(0) == 4

        def op() -> None:
            a = read()
            if a:
                n = ((a & -a) if forward else a).bit_length() - 1
                write(n)
                cpu.fl = (rule, 0, 0, n) if n else from_word(0x04)
            else:
                if narrow and s.mode.bits != 64:
                    write(keep())
                cpu.fl = (rule, 0, 0, 0)

        return op

    return build


def count_zeros(trailing: bool) -> Builder:
    """TZCNT and LZCNT: CF if the source is zero, ZF if the result is."""

    def build(s: Site) -> Op:
        cpu, bits = s.cpu, 8 * s.size(0)
        read, write = s.reader(1), s.writer(0)

        def op() -> None:
            a = read()
            n = bits if not a else ((a & -a).bit_length() - 1 if trailing else bits - a.bit_length())
            write(n)
            cpu.fl = from_word(cpu.arith() & 0x800 | (not a) | (not n) << 6)

        return op

    return build


def popcnt(s: Site) -> Op:
    cpu, read, write = s.cpu, s.reader(1), s.writer(0)

    def op() -> None:
        a = read()
        write(a.bit_count())
        cpu.fl = from_word(0 if a else 0x40)

    return op


def andn(s: Site) -> Op:
    cpu, rule, mask = s.cpu, LOGIC[s.size(0)], MASKS[s.size(0)]
    left, right, write = s.reader(1), s.reader(2), s.writer(0)

    def op() -> None:
        c = ~left() & right() & mask
        write(c)
        cpu.fl = (rule, 0, 0, c)

    return op


def lowest(compute: Callable[[int], int], carry_if_zero: bool) -> Builder:
    """BLSI, BLSR, BLSMSK: CF tells whether the source is (not) zero."""

    def build(s: Site) -> Op:
        cpu, rule, mask = s.cpu, CF_RULE[s.size(0)], MASKS[s.size(0)]
        read, write = s.reader(1), s.writer(0)

        def op() -> None:
            a = read()
            c = compute(a) & mask
            write(c)
            cpu.fl = (rule, int((not a) == carry_if_zero), 0, c)

        return op

    return build


def bextr(s: Site) -> Op:
    """BEXTR: start in bits 0-7 of the control, length in bits 8-15."""
    cpu = s.cpu
    read, control, write = s.reader(1), s.reader(2), s.writer(0)

    def op() -> None:
        which = control()
        c = read() >> (which & 0xFF) & (1 << (which >> 8 & 0xFF)) - 1
        write(c)
        cpu.fl = from_word(0x10 | PARITY[c & 0xFF] << 2 | (not c) << 6)

    return op


def bzhi(s: Site) -> Op:
    """BZHI: clear from the bit given on; CF if that is beyond the operand."""
    cpu, size = s.cpu, s.size(0)
    rule, bits = CF_RULE[size], 8 * size
    read, index, write = s.reader(1), s.reader(2), s.writer(0)

    def op() -> None:
        n = index() & 0xFF
        a = read()
        c = a & (1 << n) - 1 if n < bits else a
        write(c)
        cpu.fl = (rule, int(n >= bits), 0, c)

    return op


def pdep(s: Site) -> Op:
    read, select, write = s.reader(1), s.reader(2), s.writer(0)

    def op() -> None:
        source, mask, out = read(), select(), 0
        while mask:
            low = mask & -mask
            if source & 1:
                out |= low
            source >>= 1
            mask ^= low
        write(out)

    return op


def pext(s: Site) -> Op:
    read, select, write = s.reader(1), s.reader(2), s.writer(0)

    def op() -> None:
        source, mask, out, n = read(), select(), 0, 0
        while mask:
            low = mask & -mask
            if source & low:
                out |= 1 << n
            n += 1
            mask ^= low
        write(out)

    return op


M = Mnemonic

TABLE: Table = {
    M.BT: bit_test(None), M.BTS: bit_test(lambda a, bit: a | bit), M.BTR: bit_test(lambda a, bit: a & ~bit),
    M.BTC: bit_test(lambda a, bit: a ^ bit),
    M.BSF: scan(True), M.BSR: scan(False), M.TZCNT: count_zeros(True), M.LZCNT: count_zeros(False),
    M.POPCNT: popcnt, M.ANDN: andn, M.BEXTR: bextr, M.BZHI: bzhi, M.PDEP: pdep, M.PEXT: pext,
    M.BLSI: lowest(lambda a: a & -a, False), M.BLSR: lowest(lambda a: a & a - 1, True),
    M.BLSMSK: lowest(lambda a: a ^ a - 1, True),
}  # fmt: skip
