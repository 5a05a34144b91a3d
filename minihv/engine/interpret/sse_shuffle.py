"""Rearranging lanes: interleave, pack, shuffle, blend, insert, extract, extend."""

from collections.abc import Callable

from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.sse_lanes import (
    M64,
    PSHUFB,
    Unary,
    align_right,
    blend,
    extender,
    interleaver,
    lane_mask,
    packer,
    s8,
    s16,
    shuffle_dwords,
    shuffle_words,
    shufpd,
    shufps,
    sign_mask,
    u8,
    u16,
)
from minihv.engine.interpret.sse_operands import (
    HIGH,
    M32,
    combine,
    combine_lanes,
    guard_table,
    is_mmx,
    source,
    target,
    width,
    xmm_writer,
)
from minihv.engine.interpret.table import Builder, Table


def _unpack_low(size: int) -> Builder:
    """PUNPCKL of lanes of `size` bytes; the MMX form reads only 32 bits of memory."""
    wide, narrow = combine(interleaver(size, False)[16]), interleaver(size, False)[8]

    def build(s: Site) -> Op:
        if not is_mmx(s, 0):
            return wide(s)
        read, other, write = source(s, 0), source(s, 1, 4), target(s)

        def op() -> None:
            write(narrow(read(), other()))

        return op

    return build


def _by_immediate(function: Callable[[int, int], int]) -> Builder:
    """`op0 = function(op1, imm)`: PSHUFD and kin."""

    def build(s: Site) -> Op:
        read, write, imm = source(s, 1, width(s)), target(s), s.imm(2, 1)

        def op() -> None:
            write(function(read(), imm))

        return op

    return build


def _with_immediate(function: Callable[[int, int, int], int]) -> Builder:
    """`op0 = function(op0, op1, imm)`: SHUFPS, blends."""

    def build(s: Site) -> Op:
        imm = s.imm(2, 1)
        return combine(lambda a, b: function(a, b, imm))(s)

    return build


def palignr(s: Site) -> Op:
    """Bytes out of the middle of both operands."""
    size, imm = width(s), s.imm(2, 1)
    read, other, write = source(s, 0), source(s, 1, size), target(s)

    def op() -> None:
        write(align_right(read(), other(), imm, size))

    return op


def _blend_fixed(bits: int) -> Callable[[int, int, int], int]:
    return lambda a, b, imm: blend(a, b, lane_mask(imm, bits))


def _blend_variable(bits: int) -> Builder:
    """PBLENDVB and kin: the sign bits of XMM0's lanes choose."""

    def build(s: Site) -> Op:
        xmm = s.cpu.xmm
        return combine(lambda a, b: blend(a, b, sign_mask(xmm[0], bits)))(s)

    return build


def _insert(bits: int) -> Builder:
    """PINSRB/W/D/Q: low bits of a general register, or memory of that size."""
    ones = (1 << bits) - 1

    def build(s: Site) -> Op:
        lanes_mask = (8 * width(s) // bits) - 1
        shift = (s.imm(2, 1) & lanes_mask) * bits
        keep = ~(ones << shift)
        read, write = source(s, 0), target(s)
        other = s.load_operand(bits // 8) if s.is_mem(1) else s.reader(1)

        def op() -> None:
            value = other() & ones
            write(read() & keep | value << shift)

        return op

    return build


def _extract(bits: int) -> Builder:
    """PEXTRB/W/D/Q, EXTRACTPS: zero-extended into a register, or stored."""
    ones = (1 << bits) - 1

    def build(s: Site) -> Op:
        lanes_mask = ((8 if is_mmx(s, 1) else 16) * 8 // bits) - 1
        shift = (s.imm(2, 1) & lanes_mask) * bits
        read, r = source(s, 1), s.cpu.r
        if s.is_mem(0):
            address, st = s.address(bits // 8, True), s.st(bits // 8)

            def to_memory() -> None:
                st(address(), read() >> shift & ones)

            return to_memory
        d = s.gpr(0)

        def to_register() -> None:
            r[d] = read() >> shift & ones

        return to_register

    return build


def insertps(s: Site) -> Op:
    """A dword of a register (bits 6-7 say which) or of memory to lane 4-5; bits 0-3 clear lanes."""
    xmm, d, imm = s.cpu.xmm, s.xmm(0), s.imm(2, 1)
    shift = (imm >> 4 & 3) * 32
    keep = ~(M32 << shift) & ~lane_mask(imm & 15, 32)
    cleared = imm >> (imm >> 4 & 3) & 1
    from_shift = (imm >> 6) * 32 if s.is_reg(1) else 0
    read = source(s, 1, 4)

    def op() -> None:
        value = read() >> from_shift & M32
        xmm[d] = xmm[d] & keep | (0 if cleared else value << shift)

    return op


def _extend(source_code: str, target_code: str) -> Builder:
    """PMOVSX/PMOVZX; memory operands are as small as the lanes used."""
    function: Unary = extender(source_code, target_code)

    def build(s: Site) -> Op:
        read, write = source(s, 1, s.size(1) if s.is_mem(1) else 16), xmm_writer(s, 0)

        def op() -> None:
            write(function(read()))

        return op

    return build


EXTENSIONS: dict[int, tuple[str, str]] = {
    Mn.PMOVSXBW: ("b", "h"),
    Mn.PMOVSXBD: ("b", "i"),
    Mn.PMOVSXBQ: ("b", "q"),
    Mn.PMOVSXWD: ("h", "i"),
    Mn.PMOVSXWQ: ("h", "q"),
    Mn.PMOVSXDQ: ("i", "q"),
    Mn.PMOVZXBW: ("B", "H"),
    Mn.PMOVZXBD: ("B", "I"),
    Mn.PMOVZXBQ: ("B", "Q"),
    Mn.PMOVZXWD: ("H", "I"),
    Mn.PMOVZXWQ: ("H", "Q"),
    Mn.PMOVZXDQ: ("I", "Q"),
}

TABLE: Table = guard_table(
    {
        Mn.PUNPCKLBW: _unpack_low(1),
        Mn.PUNPCKLWD: _unpack_low(2),
        Mn.PUNPCKLDQ: _unpack_low(4),
        Mn.PUNPCKLQDQ: combine(interleaver(8, False)[16]),
        Mn.UNPCKLPS: combine(interleaver(4, False)[16]),
        Mn.UNPCKLPD: combine(interleaver(8, False)[16]),
        Mn.PUNPCKHBW: combine_lanes(interleaver(1, True)),
        Mn.PUNPCKHWD: combine_lanes(interleaver(2, True)),
        Mn.PUNPCKHDQ: combine_lanes(interleaver(4, True)),
        Mn.PUNPCKHQDQ: combine(interleaver(8, True)[16]),
        Mn.UNPCKHPS: combine(interleaver(4, True)[16]),
        Mn.UNPCKHPD: combine(interleaver(8, True)[16]),
        Mn.PACKSSWB: combine_lanes(packer("h", "b", s8)),
        Mn.PACKSSDW: combine_lanes(packer("i", "h", s16)),
        Mn.PACKUSWB: combine_lanes(packer("h", "B", u8)),
        Mn.PACKUSDW: combine(packer("i", "H", u16)[16]),
        Mn.PSHUFB: combine_lanes(PSHUFB),
        Mn.PSHUFD: _by_immediate(shuffle_dwords),
        Mn.PSHUFW: _by_immediate(shuffle_words),
        Mn.PSHUFLW: _by_immediate(lambda a, imm: a & HIGH | shuffle_words(a & M64, imm)),
        Mn.PSHUFHW: _by_immediate(lambda a, imm: a & M64 | shuffle_words(a >> 64, imm) << 64),
        Mn.SHUFPS: _with_immediate(shufps),
        Mn.SHUFPD: _with_immediate(shufpd),
        Mn.PALIGNR: palignr,
        Mn.BLENDPS: _with_immediate(_blend_fixed(32)),
        Mn.BLENDPD: _with_immediate(_blend_fixed(64)),
        Mn.PBLENDW: _with_immediate(_blend_fixed(16)),
        Mn.PBLENDVB: _blend_variable(8),
        Mn.BLENDVPS: _blend_variable(32),
        Mn.BLENDVPD: _blend_variable(64),
        Mn.PINSRB: _insert(8),
        Mn.PINSRW: _insert(16),
        Mn.PINSRD: _insert(32),
        Mn.PINSRQ: _insert(64),
        Mn.PEXTRB: _extract(8),
        Mn.PEXTRW: _extract(16),
        Mn.PEXTRD: _extract(32),
        Mn.PEXTRQ: _extract(64),
        Mn.EXTRACTPS: _extract(32),
        Mn.INSERTPS: insertps,
    }
    | {mnemonic: _extend(*codes) for mnemonic, codes in EXTENSIONS.items()}
)
