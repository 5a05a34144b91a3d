"""SSE floating-point arithmetic, packed and scalar, and what SSE3 and SSE4.1 build from it.

Elements are computed by `minihv.x86.softfloat_*`; here are lanes, operands and exceptions. A packed
instruction reports the union of its elements' flags and, if one of them is unmasked, changes no register.
"""

from collections.abc import Callable

from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.sse_lanes import M128
from minihv.engine.interpret.sse_operands import guard_table, raise_flags, source
from minihv.engine.interpret.table import Builder, Table
from minihv.x86 import softfloat_fast as fast
from minihv.x86 import softfloat_sse as sse
from minihv.x86.softfloat import F32, F64, Format
from minihv.x86.softfloat_fast import Operation

Functions = dict[int, Operation]
"""By element width in bits, 32 and 64."""


def _exact(function: Callable[[Format, int, int, int], tuple[int, int]]) -> Functions:
    return {
        32: lambda a, b, csr: function(F32, a, b, csr),
        64: lambda a, b, csr: function(F64, a, b, csr),
    }


MIN, MAX = _exact(sse.minimum), _exact(sse.maximum)


def each(function: Operation, bits: int, a: int, b: int, csr: int) -> tuple[int, int]:
    """`function` on every element of two registers: result and all flags."""
    ones = (1 << bits) - 1
    result = flags = 0
    for shift in range(0, 128, bits):
        element, raised = function(a >> shift & ones, b >> shift & ones, csr)
        result |= element << shift
        flags |= raised
    return result, flags


def _packed(function: Operation, bits: int) -> Builder:
    def build(s: Site) -> Op:
        cpu, d, read = s.cpu, s.xmm(0), source(s, 1)
        xmm = cpu.xmm

        def op() -> None:
            csr = cpu.mxcsr
            result, flags = each(function, bits, xmm[d], read(), csr)
            if flags & ~csr | flags & ~(csr >> 7):
                raise_flags(cpu, flags)
            xmm[d] = result

        return op

    return build


def _scalar(function: Operation, bits: int) -> Builder:
    ones = (1 << bits) - 1
    high = M128 ^ ones

    def build(s: Site) -> Op:
        cpu, d, read = s.cpu, s.xmm(0), source(s, 1, bits // 8)
        xmm = cpu.xmm

        def op() -> None:
            csr, old = cpu.mxcsr, xmm[d]
            result, flags = function(old & ones, read() & ones, csr)
            # A flag that is set already needs no recording, unless it is unmasked.
            if flags & ~csr | flags & ~(csr >> 7):
                raise_flags(cpu, flags)
            xmm[d] = old & high | result

        return op

    return build


def _estimate(function: Callable[[int], int], packed: bool) -> Builder:
    """RCPPS, RSQRTPS: no flags at all."""
    return (_packed if packed else _scalar)(lambda a, b, csr: (function(b), 0), 32)


# Rounding (SSE4.1) ---------------------------------------------------------------------------------


def _round(bits: int, packed: bool) -> Builder:
    fmt = F32 if bits == 32 else F64

    def build(s: Site) -> Op:
        imm = s.imm(2, 1)
        function: Operation = lambda a, b, csr: sse.round_to_integral(fmt, b, csr, imm)  # noqa: E731
        return (_packed if packed else _scalar)(function, bits)(s)

    return build


# Across lanes (SSE3, SSE4.1) -------------------------------------------------------------------------


def _horizontal(function: Operation, bits: int) -> Builder:
    """HADDPS, HSUBPD and kin: neighbours of the first operand, then of the second."""
    ones = (1 << bits) - 1

    def pair(a: int, b: int, csr: int) -> tuple[int, int]:
        both, result, flags = a | b << 128, 0, 0
        for n in range(128 // bits):
            at = 2 * n * bits
            element, raised = function(both >> at & ones, both >> (at + bits) & ones, csr)
            result |= element << n * bits
            flags |= raised
        return result, flags

    return _whole(pair)


def _whole(function: Operation) -> Builder:
    """`function` on whole registers."""

    def build(s: Site) -> Op:
        cpu, d, read = s.cpu, s.xmm(0), source(s, 1)
        xmm = cpu.xmm

        def op() -> None:
            result, flags = function(xmm[d], read(), cpu.mxcsr)
            if flags:
                raise_flags(cpu, flags)
            xmm[d] = result

        return op

    return build


def _addsub(bits: int) -> Builder:
    """ADDSUBPS, ADDSUBPD: even lanes subtract, odd lanes add."""
    ones = (1 << bits) - 1
    add, sub = fast.ADD[bits], fast.SUB[bits]

    def apply(a: int, b: int, csr: int) -> tuple[int, int]:
        result = flags = 0
        for n in range(128 // bits):
            at = n * bits
            element, raised = (add if n & 1 else sub)(a >> at & ones, b >> at & ones, csr)
            result |= element << at
            flags |= raised
        return result, flags

    return _whole(apply)


def dot_product(bits: int, a: int, b: int, imm: int, csr: int) -> tuple[int, int]:
    """DPPS, DPPD: result and flags (SDM Vol. 2A).

    Every rounding step may raise; after an unmasked one the later steps do not happen.
    """
    ones, count = (1 << bits) - 1, 128 // bits
    add, mul = fast.ADD[bits], fast.MUL[bits]
    terms, flags = [0] * count, 0
    for n in range(count):
        if imm >> (4 + n) & 1:
            terms[n], raised = mul(a >> n * bits & ones, b >> n * bits & ones, csr)
            flags |= raised
    while len(terms) > 1:
        if flags & ~(csr >> 7):
            return 0, flags
        pairs = []
        for n in range(0, len(terms), 2):
            total, raised = add(terms[n], terms[n + 1], csr)
            pairs.append(total)
            flags |= raised
        terms = pairs
    return sum(terms[0] << n * bits for n in range(count) if imm >> n & 1), flags


def _dot(bits: int) -> Builder:
    def build(s: Site) -> Op:
        imm = s.imm(2, 1)
        return _whole(lambda a, b, csr: dot_product(bits, a, b, imm, csr))(s)

    return build


def _family(functions: Functions, ps: int, ss: int, pd: int, sd: int) -> Table:
    return {
        ps: _packed(functions[32], 32),
        ss: _scalar(functions[32], 32),
        pd: _packed(functions[64], 64),
        sd: _scalar(functions[64], 64),
    }


TABLE: Table = guard_table(
    _family(fast.ADD, Mn.ADDPS, Mn.ADDSS, Mn.ADDPD, Mn.ADDSD)
    | _family(fast.SUB, Mn.SUBPS, Mn.SUBSS, Mn.SUBPD, Mn.SUBSD)
    | _family(fast.MUL, Mn.MULPS, Mn.MULSS, Mn.MULPD, Mn.MULSD)
    | _family(fast.DIV, Mn.DIVPS, Mn.DIVSS, Mn.DIVPD, Mn.DIVSD)
    | _family(fast.SQRT, Mn.SQRTPS, Mn.SQRTSS, Mn.SQRTPD, Mn.SQRTSD)
    | _family(MIN, Mn.MINPS, Mn.MINSS, Mn.MINPD, Mn.MINSD)
    | _family(MAX, Mn.MAXPS, Mn.MAXSS, Mn.MAXPD, Mn.MAXSD)
    | {
        Mn.RCPPS: _estimate(sse.reciprocal, True),
        Mn.RCPSS: _estimate(sse.reciprocal, False),
        Mn.RSQRTPS: _estimate(sse.reciprocal_sqrt, True),
        Mn.RSQRTSS: _estimate(sse.reciprocal_sqrt, False),
        Mn.ROUNDPS: _round(32, True),
        Mn.ROUNDSS: _round(32, False),
        Mn.ROUNDPD: _round(64, True),
        Mn.ROUNDSD: _round(64, False),
        Mn.HADDPS: _horizontal(fast.ADD[32], 32),
        Mn.HADDPD: _horizontal(fast.ADD[64], 64),
        Mn.HSUBPS: _horizontal(fast.SUB[32], 32),
        Mn.HSUBPD: _horizontal(fast.SUB[64], 64),
        Mn.ADDSUBPS: _addsub(32),
        Mn.ADDSUBPD: _addsub(64),
        Mn.DPPS: _dot(32),
        Mn.DPPD: _dot(64),
    }
)
