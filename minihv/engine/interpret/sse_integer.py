"""Packed integer arithmetic, comparison, logic and shifts of MMX, SSE2, SSSE3 and SSE4."""

from collections.abc import Callable

from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.flags import explicit
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.sse_lanes import (
    M64,
    M128,
    PHADDD,
    PHADDSW,
    PHADDW,
    PHSUBD,
    PHSUBSW,
    PHSUBW,
    PMADDUBSW,
    PMADDWD,
    PSADBW,
    Lanes,
    adder,
    lanewise,
    mpsadbw,
    phminposuw,
    pmuldq,
    pmuludq,
    s8,
    s16,
    shift_left,
    shift_right,
    shift_right_arithmetic,
    subtractor,
    u8,
    u16,
    unary,
)
from minihv.engine.interpret.sse_operands import (
    combine,
    combine_lanes,
    guard_table,
    source,
    target,
    width,
)
from minihv.engine.interpret.table import Builder, Table


def _both(function: Callable[[int, int], int]) -> Lanes:
    """One function that serves both widths."""
    return {8: function, 16: function}


def _equal(a: int, b: int) -> int:
    return -(a == b)


def _greater(a: int, b: int) -> int:
    return -(a > b)


def _average(a: int, b: int) -> int:
    return (a + b + 1) >> 1


def _sign(a: int, b: int) -> int:
    """PSIGN; the most negative number stays itself (the caller's lane type is unsigned)."""
    return -a if b < 0 else a if b else 0


def _signed_by(code: str, bits: int) -> Lanes:
    mask = (1 << bits) - 1
    return lanewise(code, lambda a, b: _sign(a, b) & mask, code.upper())


def _round_high(a: int, b: int) -> int:
    """PMULHRSW; -1 * -1 in Q15 wraps (SDM Vol. 2B)."""
    return (((a * b >> 14) + 1) >> 1) & 0xFFFF


BINARY: dict[int, Lanes] = {
    Mn.PADDB: adder(8),
    Mn.PADDW: adder(16),
    Mn.PADDD: adder(32),
    Mn.PADDQ: adder(64),
    Mn.PSUBB: subtractor(8),
    Mn.PSUBW: subtractor(16),
    Mn.PSUBD: subtractor(32),
    Mn.PSUBQ: subtractor(64),
    Mn.PADDSB: lanewise("b", lambda a, b: s8(a + b)),
    Mn.PADDSW: lanewise("h", lambda a, b: s16(a + b)),
    Mn.PADDUSB: lanewise("B", lambda a, b: u8(a + b)),
    Mn.PADDUSW: lanewise("H", lambda a, b: u16(a + b)),
    Mn.PSUBSB: lanewise("b", lambda a, b: s8(a - b)),
    Mn.PSUBSW: lanewise("h", lambda a, b: s16(a - b)),
    Mn.PSUBUSB: lanewise("B", lambda a, b: u8(a - b)),
    Mn.PSUBUSW: lanewise("H", lambda a, b: u16(a - b)),
    Mn.PMULLW: lanewise("H", lambda a, b: a * b & 0xFFFF),
    Mn.PMULHW: lanewise("h", lambda a, b: a * b >> 16),
    Mn.PMULHUW: lanewise("H", lambda a, b: a * b >> 16),
    Mn.PMULHRSW: lanewise("h", _round_high, "H"),
    Mn.PMULUDQ: _both(pmuludq),
    Mn.PMADDWD: PMADDWD,
    Mn.PMADDUBSW: PMADDUBSW,
    Mn.PSADBW: PSADBW,
    Mn.PAVGB: lanewise("B", _average),
    Mn.PAVGW: lanewise("H", _average),
    Mn.PMINUB: lanewise("B", min),
    Mn.PMAXUB: lanewise("B", max),
    Mn.PMINSW: lanewise("h", min),
    Mn.PMAXSW: lanewise("h", max),
    Mn.PCMPEQB: lanewise("b", _equal),
    Mn.PCMPEQW: lanewise("h", _equal),
    Mn.PCMPEQD: lanewise("i", _equal),
    Mn.PCMPGTB: lanewise("b", _greater),
    Mn.PCMPGTW: lanewise("h", _greater),
    Mn.PCMPGTD: lanewise("i", _greater),
    Mn.PAND: _both(lambda a, b: a & b),
    Mn.PANDN: _both(lambda a, b: ~a & b),
    Mn.POR: _both(lambda a, b: a | b),
    Mn.PXOR: _both(lambda a, b: a ^ b),
    Mn.PHADDW: PHADDW,
    Mn.PHADDD: PHADDD,
    Mn.PHADDSW: PHADDSW,
    Mn.PHSUBW: PHSUBW,
    Mn.PHSUBD: PHSUBD,
    Mn.PHSUBSW: PHSUBSW,
    Mn.PSIGNB: _signed_by("b", 8),
    Mn.PSIGNW: _signed_by("h", 16),
    Mn.PSIGND: _signed_by("i", 32),
    Mn.PABSB: unary("b", abs, "B"),
    Mn.PABSW: unary("h", abs, "H"),
    Mn.PABSD: unary("i", abs, "I"),
}
"""Operations that exist on MMX and XMM registers."""

WIDE: dict[int, Callable[[int, int], int]] = {
    Mn.PMULDQ: pmuldq,
    Mn.PMULLD: lanewise("I", lambda a, b: a * b & 0xFFFFFFFF)[16],
    Mn.PMINSB: lanewise("b", min)[16],
    Mn.PMINSD: lanewise("i", min)[16],
    Mn.PMINUW: lanewise("H", min)[16],
    Mn.PMINUD: lanewise("I", min)[16],
    Mn.PMAXSB: lanewise("b", max)[16],
    Mn.PMAXSD: lanewise("i", max)[16],
    Mn.PMAXUW: lanewise("H", max)[16],
    Mn.PMAXUD: lanewise("I", max)[16],
    Mn.PCMPEQQ: lanewise("q", _equal)[16],
    Mn.PCMPGTQ: lanewise("q", _greater)[16],
    Mn.PHMINPOSUW: lambda a, b: phminposuw(b),
    Mn.ANDPS: lambda a, b: a & b,
    Mn.ANDPD: lambda a, b: a & b,
    Mn.ANDNPS: lambda a, b: ~a & b,
    Mn.ANDNPD: lambda a, b: ~a & b,
    Mn.ORPS: lambda a, b: a | b,
    Mn.ORPD: lambda a, b: a | b,
    Mn.XORPS: lambda a, b: a ^ b,
    Mn.XORPD: lambda a, b: a ^ b,
}
"""Operations on XMM registers only."""

SHIFTS: dict[int, Lanes] = {
    Mn.PSLLW: shift_left(16),
    Mn.PSLLD: shift_left(32),
    Mn.PSLLQ: shift_left(64),
    Mn.PSRLW: shift_right(16),
    Mn.PSRLD: shift_right(32),
    Mn.PSRLQ: shift_right(64),
    Mn.PSRAW: shift_right_arithmetic(16),
    Mn.PSRAD: shift_right_arithmetic(32),
}


def _shift(functions: Lanes) -> Builder:
    """By an immediate, or by the low 64 bits of the other operand."""

    def build(s: Site) -> Op:
        size = width(s)
        function, read, write = functions[size], source(s, 0), target(s)
        if s.is_imm(1):
            count = s.imm(1, 1)

            def by_immediate() -> None:
                write(function(read(), count))

            return by_immediate
        other = source(s, 1, size)

        def op() -> None:
            write(function(read(), other() & M64))

        return op

    return build


def _shift_bytes(left: bool) -> Builder:
    """PSLLDQ, PSRLDQ."""

    def build(s: Site) -> Op:
        xmm, d, bits = s.cpu.xmm, s.xmm(0), 8 * s.imm(1, 1)

        def up() -> None:
            xmm[d] = xmm[d] << bits & M128 if bits < 128 else 0

        def down() -> None:
            xmm[d] >>= bits

        return up if left else down

    return build


def ptest(s: Site) -> Op:
    """ZF: no common bit; CF: no bit of the source outside the destination."""
    cpu = s.cpu
    first, second = source(s, 0), source(s, 1)

    def op() -> None:
        a, b = first(), second()
        cpu.fl = explicit(not b & ~a, 0, 0, not a & b, 0, 0)

    return op


def _mpsadbw(s: Site) -> Op:
    imm = s.imm(2, 1)
    return combine(lambda a, b: mpsadbw(a, b, imm))(s)


TABLE: Table = guard_table(
    {mnemonic: combine_lanes(functions) for mnemonic, functions in BINARY.items()}
    | {mnemonic: combine(function) for mnemonic, function in WIDE.items()}
    | {mnemonic: _shift(functions) for mnemonic, functions in SHIFTS.items()}
    | {
        Mn.PSLLDQ: _shift_bytes(True),
        Mn.PSRLDQ: _shift_bytes(False),
        Mn.PTEST: ptest,
        Mn.MPSADBW: _mpsadbw,
    }
)
