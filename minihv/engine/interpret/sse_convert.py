"""SSE comparisons and conversions between binary32, binary64 and integers, MMX ones among them."""

from collections.abc import Callable

from minihv.engine.interpret.decode import Code
from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.flags import from_word
from minihv.engine.interpret.site import Op, Read, Site
from minihv.engine.interpret.sse_lanes import M64, M128
from minihv.engine.interpret.sse_operands import (
    HIGH,
    M32,
    guard_mmx,
    guard_sse,
    guard_table,
    guarded,
    is_mmx,
    mmx_writer,
    raise_flags,
    source,
    xmm_writer,
)
from minihv.engine.interpret.table import Also, Builder, Table
from minihv.x86 import softfloat_sse as sse
from minihv.x86.softfloat import F32, F64, Format

Element = Callable[[int, int], tuple[int, int]]
"""(source element, csr) -> (result element, flags)"""


# Comparisons ---------------------------------------------------------------------------------------


def _compare_mask(bits: int, packed: bool) -> Builder:
    """CMPPS and kin: all ones where predicate imm8[2:0] holds."""
    fmt, ones = (F32, M32) if bits == 32 else (F64, M64)
    count = 128 // bits if packed else 1

    def build(s: Site) -> Op:
        cpu, d, which = s.cpu, s.xmm(0), s.imm(2, 1) & 7
        xmm, read = cpu.xmm, source(s, 1, 16 if packed else bits // 8)

        def op() -> None:
            a, b, csr, flags = xmm[d], read(), cpu.mxcsr, 0
            result = a
            for at in range(0, count * bits, bits):
                holds, raised = sse.predicate(fmt, a >> at & ones, b >> at & ones, csr, which)
                result = result | ones << at if holds else result & ~(ones << at)
                flags |= raised
            if flags:
                raise_flags(cpu, flags)
            xmm[d] = result

        return op

    return build


_FLAGS = {None: from_word(0x45), -1: from_word(1), 0: from_word(0x40), 1: from_word(0)}
"""Order -> ZF, PF, CF as COMISS leaves them; OF, SF, AF are cleared."""


def _compare_flags(fmt: Format, signaling: bool) -> Builder:
    """COMISS (`signaling`), UCOMISS and kin."""
    size = fmt.width // 8
    ones = (1 << fmt.width) - 1

    def build(s: Site) -> Op:
        cpu, d, read = s.cpu, s.xmm(0), source(s, 1, size)
        xmm = cpu.xmm

        def op() -> None:
            order, flags = sse.compare(fmt, xmm[d] & ones, read() & ones, cpu.mxcsr, signaling)
            if flags:
                raise_flags(cpu, flags)
            cpu.fl = _FLAGS[order]

        return op

    return build


# Conversions within XMM registers ------------------------------------------------------------------


def _signed(value: int, bits: int) -> int:
    return value - (value >> (bits - 1) << bits)


def _dword_to(fmt: Format) -> Element:
    return lambda a, csr: sse.from_int(fmt, _signed(a, 32), csr)


def _to_dword(fmt: Format, truncate: bool) -> Element:
    return lambda a, csr: sse.to_int(fmt, a, csr, 32, truncate)


def convert(
    function: Element, count: int, from_bits: int, to_bits: int, value: int, csr: int
) -> tuple[int, int]:
    """`count` elements from the bottom of `value`; what they do not fill is zero."""
    ones = (1 << from_bits) - 1
    result = flags = 0
    for n in range(count):
        element, raised = function(value >> n * from_bits & ones, csr)
        result |= element << n * to_bits
        flags |= raised
    return result, flags


def _packed(function: Element, from_bits: int, to_bits: int) -> Builder:
    """Whole XMM destination; the source is 64 or 128 bits of register or memory, or an MMX register."""
    count = 128 // max(from_bits, to_bits)
    size = count * from_bits // 8

    def build(s: Site) -> Op:
        cpu, write = s.cpu, xmm_writer(s, 0)
        read = source(s, 1, size)

        def op() -> None:
            result, flags = convert(function, count, from_bits, to_bits, read(), cpu.mxcsr)
            if flags:
                raise_flags(cpu, flags)
            write(result)

        return op

    return build


def _scalar_format(function: Element, from_bits: int, to_bits: int) -> Builder:
    """CVTSS2SD, CVTSD2SS: the rest of the destination stays."""
    ones, high = (1 << from_bits) - 1, M128 ^ (1 << to_bits) - 1

    def build(s: Site) -> Op:
        cpu, d, read = s.cpu, s.xmm(0), source(s, 1, from_bits // 8)
        xmm = cpu.xmm

        def op() -> None:
            result, flags = function(read() & ones, cpu.mxcsr)
            if flags:
                raise_flags(cpu, flags)
            xmm[d] = xmm[d] & high | result

        return op

    return build


# Conversions with general registers ------------------------------------------------------------------


def _from_general(fmt: Format) -> Builder:
    """CVTSI2SS, CVTSI2SD."""
    high = M128 ^ (1 << fmt.width) - 1

    def build(s: Site) -> Op:
        cpu, d, bits, read = s.cpu, s.xmm(0), 8 * s.size(1), s.reader(1)
        xmm = cpu.xmm

        def op() -> None:
            result, flags = sse.from_int(fmt, _signed(read(), bits), cpu.mxcsr)
            if flags:
                raise_flags(cpu, flags)
            xmm[d] = xmm[d] & high | result

        return op

    return build


def _to_general(fmt: Format, truncate: bool) -> Builder:
    """CVTSS2SI, CVTTSD2SI and kin."""
    ones = (1 << fmt.width) - 1

    def build(s: Site) -> Op:
        cpu, d, bits, read = s.cpu, s.gpr(0), 8 * s.size(0), source(s, 1, fmt.width // 8)
        r = cpu.r

        def op() -> None:
            result, flags = sse.to_int(fmt, read() & ones, cpu.mxcsr, bits, truncate)
            if flags:
                raise_flags(cpu, flags)
            r[d] = result

        return op

    return build


# Conversions with MMX registers ----------------------------------------------------------------------


def _from_mmx(fmt: Format) -> Builder:
    """CVTPI2PS (the high half stays), CVTPI2PD."""
    function, keep = _dword_to(fmt), HIGH if fmt is F32 else 0

    def build(s: Site) -> Op:
        cpu, d, read = s.cpu, s.xmm(0), source(s, 1, 8)
        xmm = cpu.xmm

        def op() -> None:
            result, flags = convert(function, 2, 32, fmt.width, read(), cpu.mxcsr)
            if flags:
                raise_flags(cpu, flags)
            xmm[d] = xmm[d] & keep | result

        if is_mmx(s, 1):
            return guard_mmx(cpu, op, True)
        return guard_sse(cpu, op)

    return build


def _to_mmx(fmt: Format, truncate: bool) -> Builder:
    """CVTPS2PI (64 bits of source), CVTPD2PI (128) and their truncating forms."""
    function, size = _to_dword(fmt, truncate), fmt.width // 4

    def build(s: Site) -> Op:
        cpu, write = s.cpu, mmx_writer(s, 0)
        read: Read = source(s, 1, size)

        def op() -> None:
            result, flags = convert(function, 2, fmt.width, 32, read(), cpu.mxcsr)
            if flags:
                raise_flags(cpu, flags)
            write(result)

        return guard_mmx(cpu, op, True)

    return build


TABLE: Table = guard_table(
    {
        Mn.CMPPS: _compare_mask(32, True),
        Mn.CMPSS: _compare_mask(32, False),
        Mn.CMPPD: _compare_mask(64, True),
        Mn.UCOMISS: _compare_flags(F32, False),
        Mn.UCOMISD: _compare_flags(F64, False),
        Mn.COMISS: _compare_flags(F32, True),
        Mn.COMISD: _compare_flags(F64, True),
        Mn.CVTDQ2PS: _packed(_dword_to(F32), 32, 32),
        Mn.CVTDQ2PD: _packed(_dword_to(F64), 32, 64),
        Mn.CVTPS2DQ: _packed(_to_dword(F32, False), 32, 32),
        Mn.CVTTPS2DQ: _packed(_to_dword(F32, True), 32, 32),
        Mn.CVTPD2DQ: _packed(_to_dword(F64, False), 64, 32),
        Mn.CVTTPD2DQ: _packed(_to_dword(F64, True), 64, 32),
        Mn.CVTPS2PD: _packed(sse.f32_to_f64, 32, 64),
        Mn.CVTPD2PS: _packed(sse.f64_to_f32, 64, 32),
        Mn.CVTSS2SD: _scalar_format(sse.f32_to_f64, 32, 64),
        Mn.CVTSD2SS: _scalar_format(sse.f64_to_f32, 64, 32),
        Mn.CVTSI2SS: _from_general(F32),
        Mn.CVTSI2SD: _from_general(F64),
        Mn.CVTSS2SI: _to_general(F32, False),
        Mn.CVTTSS2SI: _to_general(F32, True),
        Mn.CVTSD2SI: _to_general(F64, False),
        Mn.CVTTSD2SI: _to_general(F64, True),
    }
) | {
    Mn.CVTPI2PS: _from_mmx(F32),
    Mn.CVTPI2PD: _from_mmx(F64),
    Mn.CVTPS2PI: _to_mmx(F32, False),
    Mn.CVTTPS2PI: _to_mmx(F32, True),
    Mn.CVTPD2PI: _to_mmx(F64, False),
    Mn.CVTTPD2PI: _to_mmx(F64, True),
}

ALSO: Also = {Mn.CMPSD: {Code.CMPSD_XMM_XMMM64_IMM8: guarded(_compare_mask(64, False))}}
"""CMPSD is a string instruction too: told apart by encoding."""
