"""Port input and output: IN, OUT, INS, OUTS, with IOPL and the TSS bitmap (SDM Vol. 1, 18.5)."""

from minihv.engine.interpret import debug
from minihv.engine.interpret.cpu import ES, M16, RAX, RCX, RDI, RDX, RSI, Cpu
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.faults import protection
from minihv.engine.interpret.flagops import iopl
from minihv.engine.interpret.flags import MASKS
from minihv.engine.interpret.site import Op, Read, Site
from minihv.engine.interpret.strings import Bulk, Operands, repeated
from minihv.engine.interpret.table import Builder, Table
from minihv.exits import IoIn, IoOut
from minihv.x86.registers import CR0_PE, RFLAGS_DF, RFLAGS_VM

_BURST = 1024
"""Bytes of a REP INS in one exit, as KVM does it."""


def check_port(cpu: Cpu, port: int, size: int) -> None:
    """Raise #GP(0) unless IOPL or the permission bitmap of the TSS allows `size` ports from `port`."""
    if not cpu.cr0 & CR0_PE:
        return
    if not cpu.flags & RFLAGS_VM and cpu.cpl <= iopl(cpu):
        return
    tr = cpu.tr
    if tr.type not in (9, 11) or tr.limit < 0x67:
        raise protection()
    memory = cpu.system
    at = memory.ld[2](tr.base + 0x66) + (port >> 3)
    if at + 1 > tr.limit:  # two bytes are read always (18.5.2)
        raise protection()
    bits = memory.ld[2](tr.base + at) >> (port & 7)
    if bits & (1 << size) - 1:
        raise protection()


def _port(s: Site, n: int) -> Read:
    if s.is_reg(n):
        r = s.cpu.r
        return lambda: r[RDX] & M16
    value = s.insn.immediate(n) & 0xFF
    return lambda: value


def in_(s: Site) -> Op:
    cpu, size = s.cpu, s.size(0)
    port_of, write = _port(s, 1), s.writer(0)

    def op() -> None:
        port = port_of()
        check_port(cpu, port, size)
        value = int.from_bytes(cpu.ask(IoIn(port, size, 1, cpu.rip))[:size], "little")
        debug.port_hit(cpu, port, size)
        write(value)

    return op


def out(s: Site) -> Op:
    cpu, size, r = s.cpu, s.size(1), s.cpu.r
    port_of, mask = _port(s, 0), MASKS[s.size(1)]

    def op() -> None:
        port = port_of()
        check_port(cpu, port, size)
        cpu.ask(IoOut(port, size, 1, (r[RAX] & mask).to_bytes(size, "little"), cpu.rip))
        debug.port_hit(cpu, port, size)

    return op


def ins(size: int) -> Builder:
    """INS: the destination is checked before the port is touched."""

    def build(s: Site) -> Op:
        cpu, r = s.cpu, s.cpu.r
        o = Operands(s, size)
        (target, st), move = o.store(), o.mover(RDI)
        memory = s.memory

        def one(count: int) -> int:
            port = r[RDX] & M16
            check_port(cpu, port, size)
            at = target()
            memory.probe_write(at, count * size)
            data = cpu.ask(IoIn(port, size, count, cpu.rip))
            data = data[: count * size].ljust(count * size, b"\xff")
            debug.port_hit(cpu, port, size)
            if count == 1:
                st(at, int.from_bytes(data, "little"))
            else:
                memory.write_bytes(at, data)
            move(count)
            return count

        def once() -> None:
            one(1)

        def burst(count: int) -> int:
            if cpu.flags & RFLAGS_DF:
                return 0
            n = min(count, _BURST // size, o.room(RDI, ES, True))
            n = min(n, (0x1000 - (target() & 0xFFF)) // size) if n else 0
            return one(n) if n > 1 else 0

        if not (s.insn.has_rep_prefix or s.insn.has_repne_prefix):
            return once
        return _permitted(s, size, _repeated_ins(s, o, once, burst))

    return build


def _permitted(s: Site, size: int, op: Op) -> Op:
    """The permission counts even where there is nothing to repeat; so processors do it."""
    cpu, r = s.cpu, s.cpu.r

    def checked() -> None:
        check_port(cpu, r[RDX] & M16, size)
        op()

    return checked


def _repeated_ins(s: Site, o: Operands, once: Op, burst: Bulk) -> Op:
    """REP INS. How many elements an exit asks for must not change when it is executed again with the
    answer, so the burst does not depend on whether the instruction is executed alone."""
    cpu, r, mask, ip = s.cpu, s.cpu.r, o.mask, s.ip
    s.ends_block()

    def op() -> None:
        count = r[RCX] & mask
        while count:
            done = burst(count)
            if not done:
                once()
                done = 1
            count -= done
            r[RCX] = r[RCX] & ~M16 | count if mask == M16 else count
            cpu.committed()
            if count and (cpu.precise or cpu.attention):
                cpu.rip = ip
                cpu.left += 1
                cpu.keep_rf = True
                return

    return op


def outs(size: int) -> Builder:
    def build(s: Site) -> Op:
        cpu, r = s.cpu, s.cpu.r
        o = Operands(s, size)
        (source, ld), move = o.load(), o.mover(RSI)

        def once() -> None:
            port = r[RDX] & M16
            check_port(cpu, port, size)
            value = ld(source())
            cpu.ask(IoOut(port, size, 1, value.to_bytes(size, "little"), cpu.rip))
            debug.port_hit(cpu, port, size)
            move(1)

        if not (s.insn.has_rep_prefix or s.insn.has_repne_prefix):
            return once
        return _permitted(s, size, repeated(s, o, once, None, None))

    return build


M = Mnemonic

TABLE: Table = {
    M.IN: in_, M.OUT: out, M.INSB: ins(1), M.INSW: ins(2), M.INSD: ins(4),
    M.OUTSB: outs(1), M.OUTSW: outs(2), M.OUTSD: outs(4),
}  # fmt: skip
