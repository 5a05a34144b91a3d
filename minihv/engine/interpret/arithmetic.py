"""Addition, subtraction, comparison and logic, with memory operands as read-modify-write.

SDM Vol. 2A/2B. The commonest register forms get closures of their own; everything else goes through
`Site.modify`. Closures are the interpreter's inner loop: names are bound once, outside.
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import RAX, RBX, RCX, RDX
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.faults import protection
from minihv.engine.interpret.flags import (
    ADC,
    ADD,
    DEC,
    INC,
    LOGIC,
    MASKS,
    SBB,
    SUB,
    Rule,
    from_word,
)
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table

_Compute = Callable[[int, int], int]


def _fast_pair(s: Site) -> bool:
    return s.is_reg(0) and s.size(0) >= 4 and (s.is_imm(1) or s.is_reg(1))


def add(s: Site) -> Op:
    cpu, size = s.cpu, s.size(0)
    rule, mask = ADD[size], MASKS[size]
    if _fast_pair(s):
        r, d = cpu.r, s.gpr(0)
        if s.is_imm(1):
            value = s.imm(1)

            def add_imm() -> None:
                a = r[d] & mask
                r[d] = c = a + value & mask
                cpu.fl = (rule, a, value, c)

            return add_imm
        n = s.gpr(1)

        def add_reg() -> None:
            a, b = r[d] & mask, r[n] & mask
            r[d] = c = a + b & mask
            cpu.fl = (rule, a, b, c)

        return add_reg
    (read, write), source = s.modify(0), s.reader(1)

    def op() -> None:
        b = source()
        a = read()
        c = a + b & mask
        write(c)
        cpu.fl = (rule, a, b, c)

    return op


def sub(s: Site) -> Op:
    cpu, size = s.cpu, s.size(0)
    rule, mask = SUB[size], MASKS[size]
    if _fast_pair(s):
        r, d = cpu.r, s.gpr(0)
        if s.is_imm(1):
            value = s.imm(1)

            def sub_imm() -> None:
                a = r[d] & mask
                r[d] = c = a - value & mask
                cpu.fl = (rule, a, value, c)

            return sub_imm
        n = s.gpr(1)

        def sub_reg() -> None:
            a, b = r[d] & mask, r[n] & mask
            r[d] = c = a - b & mask
            cpu.fl = (rule, a, b, c)

        return sub_reg
    (read, write), source = s.modify(0), s.reader(1)

    def op() -> None:
        b = source()
        a = read()
        c = a - b & mask
        write(c)
        cpu.fl = (rule, a, b, c)

    return op


def cmp(s: Site) -> Op:
    cpu, size = s.cpu, s.size(0)
    rule, mask = SUB[size], MASKS[size]
    if _fast_pair(s):
        r, d = cpu.r, s.gpr(0)
        if s.is_imm(1):
            value = s.imm(1)

            def cmp_imm() -> None:
                a = r[d] & mask
                cpu.fl = (rule, a, value, a - value & mask)

            return cmp_imm
        n = s.gpr(1)

        def cmp_reg() -> None:
            a, b = r[d] & mask, r[n] & mask
            cpu.fl = (rule, a, b, a - b & mask)

        return cmp_reg
    left, right = s.reader(0), s.reader(1)

    def op() -> None:
        a, b = left(), right()
        cpu.fl = (rule, a, b, a - b & mask)

    return op


def with_carry(rules: dict[int, Rule], sign: int) -> Builder:
    """ADC (`sign` +1) and SBB (-1)."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        rule, mask = rules[size], MASKS[size]
        (read, write), source = s.modify(0), s.reader(1)

        def op() -> None:
            b = source()
            a = read()
            fl = cpu.fl
            c = a + sign * (b + fl[0].cf(fl)) & mask
            write(c)
            cpu.fl = (rule, a, b, c)

        return op

    return build


def logic(compute: _Compute, keep: bool = True) -> Builder:
    """AND, OR, XOR; TEST with `keep` False. CF and OF are cleared, AF too (undefined, zero in fact)."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        rule, mask = LOGIC[size], MASKS[size]
        source = s.reader(1)
        if not keep:
            left = s.reader(0)

            def test() -> None:
                cpu.fl = (rule, 0, 0, left() & source())

            return test
        if s.is_reg(0) and size >= 4:
            r, d = cpu.r, s.gpr(0)

            def op_reg() -> None:
                r[d] = c = compute(r[d] & mask, source())
                cpu.fl = (rule, 0, 0, c)

            return op_reg
        read, write = s.modify(0)

        def op() -> None:
            b = source()
            c = compute(read(), b)
            write(c)
            cpu.fl = (rule, 0, 0, c)

        return op

    return build


def xor(s: Site) -> Op:
    """XOR; the zeroing idiom by itself."""
    if _fast_pair(s) and s.is_reg(1) and s.gpr(0) == s.gpr(1):
        cpu, r, d = s.cpu, s.cpu.r, s.gpr(0)
        zero = (LOGIC[s.size(0)], 0, 0, 0)

        def clear() -> None:
            r[d] = 0
            cpu.fl = zero

        return clear
    return _xor(s)


def test(s: Site) -> Op:
    cpu, size = s.cpu, s.size(0)
    if _fast_pair(s) and s.is_reg(1) and s.gpr(0) == s.gpr(1):
        r, d, rule, mask = cpu.r, s.gpr(0), LOGIC[size], MASKS[size]

        def test_self() -> None:
            cpu.fl = (rule, 0, 0, r[d] & mask)

        return test_self
    return _test(s)


_xor = logic(lambda a, b: a ^ b)
_test = logic(lambda a, b: a & b, keep=False)


def step(rules: dict[int, Rule], delta: int) -> Builder:
    """INC and DEC: CF stays."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        rule, mask = rules[size], MASKS[size]
        if s.is_reg(0) and size >= 4:
            r, d = cpu.r, s.gpr(0)

            def op_reg() -> None:
                fl = cpu.fl
                r[d] = c = (r[d] & mask) + delta & mask
                cpu.fl = (rule, fl[0].cf(fl), 0, c)

            return op_reg
        read, write = s.modify(0)

        def op() -> None:
            fl = cpu.fl
            c = read() + delta & mask
            write(c)
            cpu.fl = (rule, fl[0].cf(fl), 0, c)

        return op

    return build


def neg(s: Site) -> Op:
    cpu, size = s.cpu, s.size(0)
    rule, mask = SUB[size], MASKS[size]
    read, write = s.modify(0)

    def op() -> None:
        a = read()
        c = -a & mask
        write(c)
        cpu.fl = (rule, 0, a, c)

    return op


def not_(s: Site) -> Op:
    mask = MASKS[s.size(0)]
    read, write = s.modify(0)
    return lambda: write(read() ^ mask)


def xadd(s: Site) -> Op:
    cpu, size = s.cpu, s.size(0)
    rule, mask = ADD[size], MASKS[size]
    (read, write), source, put = s.modify(0), s.reader(1), s.writer(1)

    def op() -> None:
        a, b = read(), source()
        c = a + b & mask
        if s.is_mem(0):
            write(c)
            put(a)
        else:
            put(a)  # XADD of a register with itself leaves the sum
            write(c)
        cpu.fl = (rule, a, b, c)

    return op


def cmpxchg(s: Site) -> Op:
    """CMPXCHG: memory is written in any case (SDM Vol. 2A), RAX only if the comparison fails."""
    cpu, size = s.cpu, s.size(0)
    rule, mask, r = SUB[size], MASKS[size], cpu.r
    (read, write), source = s.modify(0), s.reader(1)
    is_reg = s.is_reg(0)

    def op() -> None:
        old, expected = read(), r[RAX] & mask
        if old == expected:
            write(source())
        else:
            if not is_reg:
                write(old)
            r[RAX] = old if size >= 4 else r[RAX] & ~mask | old
        cpu.fl = (rule, expected, old, expected - old & mask)

    return op


def cmpxchg_wide(half: int) -> Builder:
    """CMPXCHG8B (`half` 4 bytes) and CMPXCHG16B (8; #GP unless aligned): only ZF changes."""

    def build(s: Site) -> Op:
        cpu, r = s.cpu, s.cpu.r
        size, bits, mask = 2 * half, 8 * half, MASKS[half]
        address, rw, st = s.address(size, True), s.rw(size), s.st(size)

        def op() -> None:
            at = address()
            if half == 8 and at & 15:
                raise protection()
            old = rw(at)
            word = cpu.arith() & ~0x40
            if old == (r[RAX] & mask) | (r[RDX] & mask) << bits:
                st(at, (r[RBX] & mask) | (r[RCX] & mask) << bits)
                word |= 0x40
            else:
                st(at, old)
                r[RAX], r[RDX] = old & mask, old >> bits
            cpu.fl = from_word(word)

        return op

    return build


def carry_chain(bit: int) -> Builder:
    """ADCX (CF, `bit` 0) and ADOX (OF, `bit` 11): one flag in and out, the others stay."""

    def build(s: Site) -> Op:
        cpu, size = s.cpu, s.size(0)
        mask, width = MASKS[size], 8 * size
        read, source, write = s.reader(0), s.reader(1), s.writer(0)

        def op() -> None:
            word = cpu.arith()
            total = read() + source() + (word >> bit & 1)
            write(total & mask)
            cpu.fl = from_word(word & ~(1 << bit) | (total >> width) << bit)

        return op

    return build


M = Mnemonic

TABLE: Table = {
    M.ADD: add, M.SUB: sub, M.CMP: cmp, M.ADC: with_carry(ADC, 1), M.SBB: with_carry(SBB, -1),
    M.AND: logic(lambda a, b: a & b), M.OR: logic(lambda a, b: a | b), M.XOR: xor, M.TEST: test,
    M.INC: step(INC, 1), M.DEC: step(DEC, -1), M.NEG: neg, M.NOT: not_,
    M.XADD: xadd, M.CMPXCHG: cmpxchg, M.CMPXCHG8B: cmpxchg_wide(4), M.CMPXCHG16B: cmpxchg_wide(8),
    M.ADCX: carry_chain(0), M.ADOX: carry_chain(11),
}  # fmt: skip
