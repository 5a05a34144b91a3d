"""MMX and SSE data movement: whole registers, halves, scalars, masks, non-temporal and masked stores.

Non-temporal hints change nothing but the alignment rule: this machine has no caches to bypass.
"""

from collections.abc import Callable

from minihv.engine.interpret.decode import Code, OpKind
from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.faults import protection
from minihv.engine.interpret.site import Op, Read, Site, Write
from minihv.engine.interpret.sse_lanes import M64, M128, sign_bits
from minihv.engine.interpret.sse_operands import (
    HIGH,
    M32,
    guard_table,
    guarded,
    is_mmx,
    load16,
    mmx_writer,
    source,
    width,
    xmm_writer,
)
from minihv.engine.interpret.table import Also, Builder, Table


def _move(read: Read, write: Write) -> Op:
    def op() -> None:
        write(read())

    return op


def _store(s: Site, size: int, align: bool, value: Read) -> Op:
    """Store `value` in the memory operand 0."""
    address, st = s.address(size, True), s.st(size)

    def op() -> None:
        lin = address()
        if align and lin & 15:
            raise protection()
        st(lin, value())

    return op


def _whole(align: bool) -> Builder:
    """All 128 bits: MOVAPS (`align`), MOVUPS and kin."""

    def build(s: Site) -> Op:
        xmm = s.cpu.xmm
        if s.is_mem(0):
            e = s.xmm(1)
            return _store(s, 16, align, lambda: xmm[e])
        d = s.xmm(0)
        if s.is_mem(1):
            load = load16(s) if align else s.load_operand(16)

            def from_memory() -> None:
                xmm[d] = load()

            return from_memory
        e = s.xmm(1)

        def from_register() -> None:
            xmm[d] = xmm[e]

        return from_register

    return build


def _scalar(size: int) -> Builder:
    """MOVSS, MOVSD: a load clears the rest of the register, a register move keeps it."""
    low = (1 << 8 * size) - 1
    high = M128 ^ low

    def build(s: Site) -> Op:
        xmm = s.cpu.xmm
        if s.is_mem(0):
            e = s.xmm(1)
            return _store(s, size, False, lambda: xmm[e] & low)
        if s.is_mem(1):
            return _move(s.load_operand(size), xmm_writer(s, 0))
        d, e = s.xmm(0), s.xmm(1)

        def op() -> None:
            xmm[d] = xmm[d] & high | xmm[e] & low

        return op

    return build


movss, movsd = _scalar(4), _scalar(8)


def movlps(s: Site) -> Op:
    """Low half from or to memory; also MOVHLPS."""
    xmm = s.cpu.xmm
    if s.is_mem(0):
        e = s.xmm(1)
        return _store(s, 8, False, lambda: xmm[e] & M64)
    d = s.xmm(0)
    if s.is_reg(1):
        e = s.xmm(1)
        read: Read = lambda: xmm[e] >> 64  # noqa: E731
    else:
        read = s.load_operand(8)

    def op() -> None:
        xmm[d] = xmm[d] & HIGH | read()

    return op


def movhps(s: Site) -> Op:
    """High half from or to memory; also MOVLHPS."""
    xmm = s.cpu.xmm
    if s.is_mem(0):
        e = s.xmm(1)
        return _store(s, 8, False, lambda: xmm[e] >> 64)
    d = s.xmm(0)
    read = source(s, 1, 8)

    def op() -> None:
        xmm[d] = xmm[d] & M64 | (read() & M64) << 64

    return op


def _vector_low(s: Site, n: int, size: int) -> Read:
    """The low `size` bytes of vector register `n`."""
    read, mask = source(s, n), (1 << 8 * size) - 1
    return lambda: read() & mask


def _writer(s: Site) -> Write:
    """Operand 0 of MOVD/MOVQ: a vector register is cleared above the value."""
    return mmx_writer(s, 0) if is_mmx(s, 0) else xmm_writer(s, 0)


def _is_vector(s: Site, n: int) -> bool:
    return s.is_reg(n) and (is_mmx(s, n) or 0 <= s.xmm(n) < 16)


def _element(s: Site) -> Op:
    """MOVD and MOVQ, between vector registers, general registers and memory."""
    if _is_vector(s, 0):
        if not _is_vector(s, 1):
            return _move(s.reader(1), _writer(s))
        return _move(_vector_low(s, 1, 8), _writer(s))
    size = s.size(0)
    return _move(_vector_low(s, 1, size), s.writer(0))


def movq2dq(s: Site) -> Op:
    """MMX to XMM, and MOVDQ2Q back."""
    return _move(_vector_low(s, 1, 8), _writer(s))


def _non_temporal(s: Site) -> Op:
    """MOVNTPS, MOVNTPD, MOVNTDQ; MOVNTQ needs no alignment."""
    size = width(s) if is_mmx(s, 1) else 16
    return _store(s, size, size == 16, source(s, 1))


def _mask_of(bits: int) -> Builder:
    """PMOVMSKB, MOVMSKPS, MOVMSKPD."""

    def build(s: Site) -> Op:
        r, d = s.cpu.r, s.gpr(0)
        read, bytes_ = source(s, 1), 8 if is_mmx(s, 1) else 16

        def op() -> None:
            r[d] = sign_bits(read(), bits, bytes_)

        return op

    return build


def _duplicate(function: Callable[[int], int], size: int = 16) -> Builder:
    def build(s: Site) -> Op:
        read, write = source(s, 1, size), xmm_writer(s, 0)

        def op() -> None:
            write(function(read()))

        return op

    return build


_EVEN = M32 | M32 << 64
movddup = _duplicate(lambda a: (a & M64) * (1 | 1 << 64), 8)
movsldup = _duplicate(lambda a: (a & _EVEN) * (1 | 1 << 32))
movshdup = _duplicate(lambda a: (a >> 32 & _EVEN) * (1 | 1 << 32))

_DI_MASK = {OpKind.MEMORY_SEG_DI: 0xFFFF, OpKind.MEMORY_SEG_EDI: M32, OpKind.MEMORY_SEG_RDI: M64}


def maskmov(s: Site) -> Op:
    """MASKMOVDQU, MASKMOVQ: the bytes whose mask byte has its top bit, at DS:rDI.

    All bytes are checked first, but for a mask of zeros on Intel's processors (SDM Vol. 2B leaves both open).
    """
    size = width(s)
    r = s.cpu.r
    lin_of = s.linear(lambda: r[7], s.segment(), size, True, _DI_MASK[s.insn.op_kind(0)])
    data, mask = source(s, 1), source(s, 2)
    probe, write, amd = s.probe_write(8), s.write_bytes(), s.cpu.amd

    def op() -> None:
        chosen = sign_bits(mask(), 8, size)
        if not chosen and not amd:
            return
        lin = lin_of()
        probe(lin, size)
        content = data().to_bytes(size, "little")
        for n in range(size):
            if chosen >> n & 1:
                write(lin + n, content[n : n + 1])

    return op


TABLE: Table = guard_table(
    {
        Mn.MOVAPS: _whole(True),
        Mn.MOVAPD: _whole(True),
        Mn.MOVDQA: _whole(True),
        Mn.MOVNTDQA: _whole(True),
        Mn.MOVUPS: _whole(False),
        Mn.MOVUPD: _whole(False),
        Mn.MOVDQU: _whole(False),
        Mn.LDDQU: _whole(False),
        Mn.MOVNTPS: _non_temporal,
        Mn.MOVNTPD: _non_temporal,
        Mn.MOVNTDQ: _non_temporal,
        Mn.MOVNTQ: _non_temporal,
        Mn.MOVSS: movss,
        Mn.MOVLPS: movlps,
        Mn.MOVLPD: movlps,
        Mn.MOVHLPS: movlps,
        Mn.MOVHPS: movhps,
        Mn.MOVHPD: movhps,
        Mn.MOVLHPS: movhps,
        Mn.MOVD: _element,
        Mn.MOVQ: _element,
        Mn.MOVQ2DQ: movq2dq,
        Mn.MOVDQ2Q: movq2dq,
        Mn.PMOVMSKB: _mask_of(8),
        Mn.MOVMSKPS: _mask_of(32),
        Mn.MOVMSKPD: _mask_of(64),
        Mn.MOVDDUP: movddup,
        Mn.MOVSLDUP: movsldup,
        Mn.MOVSHDUP: movshdup,
        Mn.MASKMOVDQU: maskmov,
        Mn.MASKMOVQ: maskmov,
    }
)

ALSO: Also = {Mn.MOVSD: {code: guarded(movsd) for code in (Code.MOVSD_XMM_XMMM64, Code.MOVSD_XMMM64_XMM)}}
"""MOVSD is a string instruction too (SDM Vol. 2B): told apart by encoding."""
