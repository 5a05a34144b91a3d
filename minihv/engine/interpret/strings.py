"""String instructions with and without repetition (SDM Vol. 2A/2B: CMPS, LODS, MOVS, SCAS, STOS, REP).

A repeated instruction commits registers after each iteration, so that it can stop at a fault, an exit or
an interrupt and resume from its own address. MOVS and STOS forward over RAM go page by page.
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import DS, ES, M16, M32, M64, RAX, RCX, RDI, RSI
from minihv.engine.interpret.decode import Mnemonic, OpKind
from minihv.engine.interpret.flags import MASKS, SUB
from minihv.engine.interpret.site import Op, Read, Site, Write
from minihv.engine.interpret.space import aligned_only, aligned_only_store
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import RFLAGS_DF

_ADDRESS_MASKS = {
    OpKind.MEMORY_SEG_SI: M16, OpKind.MEMORY_ESDI: M16,
    OpKind.MEMORY_SEG_ESI: M32, OpKind.MEMORY_ESEDI: M32,
    OpKind.MEMORY_SEG_RSI: M64, OpKind.MEMORY_ESRDI: M64,
}  # fmt: skip

Bulk = Callable[[int], int]
"""Do up to so many iterations at once; returns how many (0: none, go one by one)."""
More = Callable[[], bool]
"""After an iteration: whether the condition of REPE/REPNE lets it go on."""


class Operands:
    """Addresses and stepping of SI and DI for one string instruction."""

    def __init__(self, s: Site, size: int) -> None:
        insn = s.insn
        self.s, self.size = s, size
        self.mask = next(
            _ADDRESS_MASKS[insn.op_kind(n)] for n in range(insn.op_count) if insn.op_kind(n) in _ADDRESS_MASKS
        )
        segment = s.segment()
        self.source_segment = DS if s.mode.bits == 64 and segment < 4 else segment

    def load(self) -> tuple[Read, Callable[[int], int]]:
        """(address of DS:SI, ld)."""
        s, r = self.s, self.s.cpu.r
        ld = s.memory.ld[self.size] if self.source_segment != 2 else s.memory.ld_ss[self.size]
        if s.mode.align:
            ld = aligned_only(self.size, ld)
        return s.linear(lambda: r[RSI], self.source_segment, self.size, False, self.mask), ld

    def load_destination(self) -> tuple[Read, Callable[[int], int]]:
        """(address of ES:DI, ld), for CMPS and SCAS."""
        s, r = self.s, self.s.cpu.r
        ld = s.memory.ld[self.size]
        if s.mode.align:
            ld = aligned_only(self.size, ld)
        return s.linear(lambda: r[RDI], ES, self.size, False, self.mask), ld

    def store(self) -> tuple[Read, Callable[[int, int], None]]:
        """(address of ES:DI, st)."""
        s, r = self.s, self.s.cpu.r
        st = s.memory.st[self.size]
        if s.mode.align:
            st = aligned_only_store(self.size, st)
        return s.linear(lambda: r[RDI], ES, self.size, True, self.mask), st

    def mover(self, register: int) -> Write:
        """`move(n)`: n elements on, in the direction of DF."""
        cpu, r, mask, size = self.s.cpu, self.s.cpu.r, self.mask, self.size
        if mask == M16:

            def move16(n: int) -> None:
                delta = -n * size if cpu.flags & RFLAGS_DF else n * size
                r[register] = r[register] & ~M16 | r[register] + delta & M16

            return move16

        def move(n: int) -> None:
            r[register] = r[register] + (-n * size if cpu.flags & RFLAGS_DF else n * size) & mask

        return move

    def room(self, register: int, segment: int, write: bool) -> int:
        """Elements from the present offset on that stay inside the segment and below the address wrap."""
        offset = self.s.cpu.r[register] & self.mask
        last = self.mask
        if self.s.mode.bits != 64:
            seg = self.s.cpu.seg[segment]
            if offset < seg.lo:
                return 0
            last = min(last, seg.write_hi if write else seg.read_hi)
        return (last - offset + 1) // self.size


def repeated(s: Site, operands: Operands, once: Op, more: More | None, bulk: Bulk | None) -> Op:
    """`once` as it stands, or under REP/REPE/REPNE with the counter of the address size."""
    insn = s.insn
    if not (insn.has_rep_prefix or insn.has_repne_prefix):
        return once
    s.ends_block()
    cpu, r, mask = s.cpu, s.cpu.r, operands.mask
    ip = s.ip
    if s.mode.align:
        bulk = None

    def op() -> None:
        count = r[RCX] & mask
        while count:
            done = bulk(count) if bulk is not None and not cpu.precise else 0
            if not done:
                once()
                done = 1
            count -= done
            r[RCX] = r[RCX] & ~M16 | count if mask == M16 else count
            cpu.committed()
            if more is not None and not more():
                return
            if count and (cpu.precise or cpu.attention):
                cpu.rip = ip  # events first; the instruction goes on afterwards and counts when it is done
                cpu.left += 1
                cpu.keep_rf = True
                return

    return op


def movs(size: int) -> Builder:
    def build(s: Site) -> Op:
        o = Operands(s, size)
        (source, ld), (target, st) = o.load(), o.store()
        move_si, move_di = o.mover(RSI), o.mover(RDI)

        def once() -> None:
            st(target(), ld(source()))
            move_si(1)
            move_di(1)

        cpu, memory = s.cpu, s.memory

        def bulk(count: int) -> int:
            if cpu.flags & RFLAGS_DF or count < 4:
                return 0
            n = min(count, o.room(RSI, o.source_segment, False), o.room(RDI, ES, True))
            if n < 4:
                return 0
            a, b = memory.run(source(), False), memory.run(target(), True)
            if a is None or b is None:
                return 0
            (from_frame, at), (to_frame, to) = a, b
            n = min(n, (0x1000 - at) // size, (0x1000 - to) // size)
            if from_frame is to_frame and at < to:
                n = min(n, (to - at) // size)  # an overlapping copy forward repeats its beginning
            if n < 2:
                return 0
            length = n * size
            to_frame.views[1][to : to + length] = bytes(from_frame.views[1][at : at + length])
            if to_frame.code is not None:
                memory.mmu.physical.written(to_frame, to, length)
            move_si(n)
            move_di(n)
            return n

        return repeated(s, o, once, None, bulk)

    return build


def stos(size: int) -> Builder:
    def build(s: Site) -> Op:
        o = Operands(s, size)
        (target, st), move_di = o.store(), o.mover(RDI)
        cpu, r, mask, memory = s.cpu, s.cpu.r, MASKS[size], s.memory

        def once() -> None:
            st(target(), r[RAX] & mask)
            move_di(1)

        def bulk(count: int) -> int:
            if cpu.flags & RFLAGS_DF or count < 4:
                return 0
            n = min(count, o.room(RDI, ES, True))
            if n < 4:
                return 0
            there = memory.run(target(), True)
            if there is None:
                return 0
            frame, to = there
            n = min(n, (0x1000 - to) // size)
            if n < 2:
                return 0
            length = n * size
            frame.views[1][to : to + length] = (r[RAX] & mask).to_bytes(size, "little") * n
            if frame.code is not None:
                memory.mmu.physical.written(frame, to, length)
            move_di(n)
            return n

        return repeated(s, o, once, None, bulk)

    return build


def lods(size: int) -> Builder:
    def build(s: Site) -> Op:
        o = Operands(s, size)
        (source, ld), move_si = o.load(), o.mover(RSI)
        r, keep = s.cpu.r, 0 if size >= 4 else ~MASKS[size]

        def once() -> None:
            value = ld(source())
            r[RAX] = r[RAX] & keep | value
            move_si(1)

        return repeated(s, o, once, None, None)

    return build


def _more(s: Site) -> More | None:
    """REPE goes on while ZF is set, REPNE while it is clear."""
    cpu = s.cpu
    if s.insn.has_repne_prefix:
        return lambda: bool(cpu.fl[3])
    return lambda: not cpu.fl[3]


def cmps(size: int) -> Builder:
    def build(s: Site) -> Op:
        o = Operands(s, size)
        (source, ld), (target, ld_target) = o.load(), o.load_destination()
        move_si, move_di = o.mover(RSI), o.mover(RDI)
        cpu, rule, mask = s.cpu, SUB[size], MASKS[size]

        def once() -> None:
            a, b = ld(source()), ld_target(target())
            move_si(1)
            move_di(1)
            cpu.fl = (rule, a, b, a - b & mask)

        return repeated(s, o, once, _more(s), None)

    return build


def scas(size: int) -> Builder:
    def build(s: Site) -> Op:
        o = Operands(s, size)
        (target, ld), move_di = o.load_destination(), o.mover(RDI)
        cpu, r, rule, mask = s.cpu, s.cpu.r, SUB[size], MASKS[size]

        def once() -> None:
            a, b = r[RAX] & mask, ld(target())
            move_di(1)
            cpu.fl = (rule, a, b, a - b & mask)

        return repeated(s, o, once, _more(s), None)

    return build


M = Mnemonic

TABLE: Table = {
    M.MOVSB: movs(1), M.MOVSW: movs(2), M.MOVSD: movs(4), M.MOVSQ: movs(8),
    M.STOSB: stos(1), M.STOSW: stos(2), M.STOSD: stos(4), M.STOSQ: stos(8),
    M.LODSB: lods(1), M.LODSW: lods(2), M.LODSD: lods(4), M.LODSQ: lods(8),
    M.CMPSB: cmps(1), M.CMPSW: cmps(2), M.CMPSD: cmps(4), M.CMPSQ: cmps(8),
    M.SCASB: scas(1), M.SCASW: scas(2), M.SCASD: scas(4), M.SCASQ: scas(8),
}  # fmt: skip
"""MOVSD and CMPSD are also SSE2 mnemonics: `table` tells them apart."""
