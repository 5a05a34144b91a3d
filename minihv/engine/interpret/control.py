"""Near control flow: jumps, calls, returns, loops, software interrupts, and the like.

A target outside the code segment faults at the branch, not at the target (SDM Vol. 2A, JMP).
"""

from minihv.engine.interpret import debug, interrupts
from minihv.engine.interpret.cpu import CS, M16, M32, M64, RCX, RSP
from minihv.engine.interpret.decode import Code, Mnemonic, OpKind
from minihv.engine.interpret.faults import GuestFault, protection, stack_fault
from minihv.engine.interpret.flags import CONDITIONS, SIGNS
from minihv.engine.interpret.site import Op, Read, Site, Write
from minihv.engine.interpret.space import misaligned
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import RFLAGS_IOPL, RFLAGS_VM, VECTOR_BR, VECTOR_UD

_E, _NE = 4, 5


def target_width(s: Site) -> int:
    """Mask of the instruction pointer after a near branch with this operand size."""
    if s.mode.bits == 64:
        return M64
    kind = s.insn.op_kind(0)
    if kind == OpKind.NEAR_BRANCH16:
        return M16
    if kind == OpKind.NEAR_BRANCH32:
        return M32
    return M16 if s.size(0) == 2 else M32


def _bad_target(s: Site, target: int) -> bool:
    """Whether a fixed target is outside the code segment or not canonical, for all this block lives."""
    if s.mode.bits == 64:
        return bool((target >> 47) + 1 & 0x1FFFE)
    return target > s.cpu.seg[CS].limit


def fixed_target(s: Site) -> int | None:
    """The target of a direct near branch, or None where going there faults."""
    target = _fixed(s)
    return None if _bad_target(s, target) else target


def _fixed(s: Site) -> int:
    return s.insn.near_branch_target & target_width(s)


def set_ip(s: Site) -> Write:
    """Closure that goes to a computed target, or raises #GP."""
    cpu = s.cpu
    if s.mode.bits == 64:

        def go64(target: int) -> None:
            if (target >> 47) + 1 & 0x1FFFE:
                raise protection()
            cpu.rip = target

        return go64
    limit = cpu.seg[CS].limit

    def go(target: int) -> None:
        if target > limit:
            raise protection()
        cpu.rip = target

    return go


def jmp(s: Site) -> Op:
    s.ends_block()
    cpu = s.cpu
    if s.is_reg(0) or s.is_mem(0):
        if s.is_mem(0) and s.insn.is_jmp_far_indirect:
            from minihv.engine.interpret.far import jump_far

            return jump_far(s)
        read, go = s.reader(0), set_ip(s)
        return lambda: go(read())
    if s.insn.is_jmp_far:
        from minihv.engine.interpret.far import jump_far

        return jump_far(s)
    target = _fixed(s)
    if _bad_target(s, target):
        return s.fault(13, 0)

    def op() -> None:
        cpu.rip = target

    return op


def jcc(condition: int) -> Builder:
    test = CONDITIONS[condition]

    def build(s: Site) -> Op:
        s.ends_block()
        cpu, target = s.cpu, _fixed(s)
        if _bad_target(s, target):

            def bad() -> None:
                if test(cpu.fl):
                    raise protection()

            return bad
        if condition == _E:

            def je() -> None:
                if not cpu.fl[3]:
                    cpu.rip = target

            return je
        if condition == _NE:

            def jne() -> None:
                if cpu.fl[3]:
                    cpu.rip = target

            return jne

        def op() -> None:
            if test(cpu.fl):
                cpu.rip = target

        return op

    return build


def call(s: Site) -> Op:
    s.ends_block()
    cpu = s.cpu
    if s.insn.is_call_far or s.insn.is_call_far_indirect:
        from minihv.engine.interpret.far import call_far

        return call_far(s)
    size = abs(s.insn.stack_pointer_increment)
    push, back = s.pusher(size), s.next_ip & (1 << 8 * size) - 1
    if s.is_reg(0) or s.is_mem(0):
        read = s.reader(0)
        go = set_ip(s)
        if cpu.amd and s.mode.bits == 64:
            return _call_checking_stack(s, read, push, back)

        def indirect() -> None:
            go(read())  # a fault of the push takes RIP back too
            push(back)

        return indirect
    target = _fixed(s)
    if _bad_target(s, target):
        return s.fault(13, 0)

    def direct() -> None:
        push(back)
        cpu.rip = target

    return direct


def _call_checking_stack(s: Site, read: Read, push: Write, back: int) -> Op:
    """AMD's processors look at the stack before they look where a call goes in 64-bit mode."""
    go, r, size = set_ip(s), s.cpu.r, abs(s.insn.stack_pointer_increment)
    probe, align = s.probe_write(), s.mode.align

    def indirect() -> None:
        target = read()
        if (target >> 47) + 1 & 0x1FFFE:
            top = r[RSP] - size & M64
            if (top >> 47) + 1 & 0x1FFFE:
                raise stack_fault()
            if align and top & size - 1:
                raise misaligned(top)
            probe(top, size)
        go(target)
        push(back)

    return indirect


def ret(s: Site) -> Op:
    s.ends_block()
    pops = s.insn.immediate(0) & 0xFFFF if s.insn.op_count else 0
    size = s.insn.stack_pointer_increment - pops
    peek, move, go = s.peeker(size), s.stack_mover(), set_ip(s)
    total = size + pops

    def op() -> None:
        go(peek(0))
        move(total)

    return op


def jcxz(size: int) -> Builder:
    """JCXZ, JECXZ, JRCXZ."""

    def build(s: Site) -> Op:
        s.ends_block()
        cpu, r, target, mask = s.cpu, s.cpu.r, _fixed(s), (1 << 8 * size) - 1
        bad = _bad_target(s, target)

        def op() -> None:
            if not r[RCX] & mask:
                if bad:
                    raise protection()
                cpu.rip = target

        return op

    return build


def loop(zero_flag: int | None) -> Builder:
    """LOOP (None), LOOPE (1), LOOPNE (0): the counter's width is the address size."""

    def build(s: Site) -> Op:
        s.ends_block()
        cpu, r, target = s.cpu, s.cpu.r, _fixed(s)
        bad, mask = _bad_target(s, target), counter_mask(s)

        def op() -> None:
            count = r[RCX] - 1 & mask
            if count and (zero_flag is None or (not cpu.fl[3]) == bool(zero_flag)):
                if bad:
                    raise protection()
                cpu.rip = target
            r[RCX] = r[RCX] & ~mask | count if mask == M16 else count

        return op

    return build


def counter_mask(s: Site) -> int:
    """Width of CX/ECX/RCX in LOOP: told by the encoding, since the prefix leaves no operand."""
    return _COUNTERS[s.insn.code]


_COUNTERS = {
    getattr(Code, f"{name}_REL8_{bits}_{register}"): mask
    for name in ("LOOP", "LOOPE", "LOOPNE")
    for register, mask in (("CX", M16), ("ECX", M32), ("RCX", M64))
    for bits in (16, 32, 64)
    if hasattr(Code, f"{name}_REL8_{bits}_{register}")
}


# --- software interrupts ------------------------------------------------------------------------------


def int_n(s: Site) -> Op:
    """INT n; in virtual-8086 mode only with IOPL 3 (no VME)."""
    cpu, vector = s.cpu, s.insn.immediate(0) & 0xFF
    s.ends_block()

    def op() -> None:
        if cpu.flags & RFLAGS_VM and cpu.flags & RFLAGS_IOPL != RFLAGS_IOPL:
            raise protection()
        interrupts.software(cpu, vector)

    return op


def int3(s: Site) -> Op:
    cpu = s.cpu
    s.ends_block()
    return lambda: interrupts.software(cpu, 3)


def int1(s: Site) -> Op:
    """INT1: #DB as if from hardware, no privilege check, DR6 unchanged.

    A data breakpoint that waits behind MOV SS is reported by the same #DB.
    """
    cpu = s.cpu
    s.ends_block()

    def op() -> None:
        interrupts.deliver_once(cpu, 1, interrupts.EXTERNAL, None)
        if cpu.trap:
            debug.report(cpu, cpu.trap)
            cpu.trap = 0
        cpu.skip_trap = True

    return op


def into(s: Site) -> Op:
    cpu = s.cpu
    s.ends_block()

    def op() -> None:
        fl = cpu.fl
        if fl[0].of(fl):
            interrupts.software(cpu, 4)

    return op


def bound(s: Site) -> Op:
    """BOUND: signed index against two signed bounds in memory."""
    size = s.size(0)
    read, sign = s.reader(0), SIGNS[size]
    address, ld = s.address(2 * size, False), s.ld(size)

    def op() -> None:
        at = address()
        low, high, index = ((v ^ sign) - sign for v in (ld(at), ld(at + size), read()))
        if index < low or index > high:
            raise GuestFault(VECTOR_BR)

    return op


def ud(s: Site) -> Op:
    """UD0, UD1, UD2."""
    return s.fault(VECTOR_UD)


M = Mnemonic
_CC = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")

TABLE: Table = {
    M.JMP: jmp, M.CALL: call, M.RET: ret,
    M.JCXZ: jcxz(2), M.JECXZ: jcxz(4), M.JRCXZ: jcxz(8),
    M.LOOP: loop(None), M.LOOPE: loop(1), M.LOOPNE: loop(0),
    M.INT: int_n, M.INT3: int3, M.INT1: int1, M.INTO: into, M.BOUND: bound,
    M.UD0: ud, M.UD1: ud, M.UD2: ud,
    **{getattr(M, "J" + cc): jcc(n) for n, cc in enumerate(_CC)},
}  # fmt: skip
