"""The stack: PUSH, POP, PUSHA, POPA, ENTER, LEAVE (SDM Vol. 2A/2B).

Whatever faults leaves the stack pointer, and everything else, as it was.
"""

from minihv.engine.interpret.cpu import RBP, RSP, SS
from minihv.engine.interpret.decode import Code, Mnemonic, Register
from minihv.engine.interpret.descriptors import load_data
from minihv.engine.interpret.flags import MASKS
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.space import aligned_only
from minihv.engine.interpret.table import Builder, Table

_SEGMENTS = range(Register.ES, Register.GS + 1)


def _stack_size(s: Site) -> int:
    return abs(s.insn.stack_pointer_increment)


def push(s: Site) -> Op:
    size = _stack_size(s)
    store = s.pusher(size)
    r = s.cpu.r
    if s.is_reg(0):
        if s.insn.op_register(0) in _SEGMENTS:
            return _push_segment(s, size)
        n = s.gpr(0)
        if size == 8:
            return lambda: store(r[n])
        mask = MASKS[size]
        return lambda: store(r[n] & mask)
    if s.is_mem(0):
        read = s.reader(0)
        return lambda: store(read())
    value = s.insn.immediate(0) & MASKS[size]
    return lambda: store(value)


def _push_segment(s: Site, size: int) -> Op:
    """PUSH Sreg with 32 bits: Intel's processors write 16 and leave the rest of the slot as it was (SDM
    Vol. 2B, PUSH), AMD's write zeros there."""
    cpu, seg = s.cpu, s.cpu.seg[s.segment_operand(0)]
    if size != 4 or cpu.amd:
        store = s.pusher(size)
        return lambda: store(seg.selector)
    narrow, move = s.pusher(2), s.stack_mover()

    def op() -> None:
        old = cpu.r[RSP]
        try:
            move(-2)
            narrow(seg.selector)
        except BaseException:
            cpu.r[RSP] = old
            raise

    return op


def pop(s: Site) -> Op:
    size = _stack_size(s)
    peek, move, r = s.peeker(size), s.stack_mover(), s.cpu.r
    if s.is_reg(0):
        if s.insn.op_register(0) in _SEGMENTS:
            return _pop_segment(s, size)
        n = s.gpr(0)
        if n == RSP:
            write = s.writer(0)
            mask = s.mode.stack_mask

            def pop_sp() -> None:
                value = peek(0)
                if mask <= 0xFFFF:
                    move(size)
                write(value)

            return pop_sp
        if size >= 4:

            def pop_reg() -> None:
                r[n] = peek(0)
                move(size)

            return pop_reg
        write = s.writer(0)

        def pop16() -> None:
            write(peek(0))
            move(size)

        return pop16
    address, st = s.address(size, True), s.st(size)

    def pop_mem() -> None:
        # An address relative to RSP uses the value after the increment (SDM Vol. 2B, POP).
        value = peek(0)
        old = r[RSP]
        move(size)
        try:
            st(address(), value)
        except BaseException:
            r[RSP] = old
            raise

    return pop_mem


def _pop_segment(s: Site, size: int) -> Op:
    cpu, n = s.cpu, s.segment_operand(0)
    peek, move = s.peeker(size), s.stack_mover()
    s.ends_block()

    def op() -> None:
        selector = peek(0) & 0xFFFF
        load_data(cpu, n, selector)
        move(size)
        if n == SS:
            cpu.shadow_mov_ss = cpu.attention = True

    return op


def pusha(size: int) -> Builder:
    def build(s: Site) -> Op:
        if s.mode.bits == 64:
            return s.undefined()
        store, r = s.pusher(size), s.cpu.r
        mask = MASKS[size]

        def op() -> None:
            saved = r[RSP]
            try:
                for n in range(8):
                    store((saved if n == RSP else r[n]) & mask)
            except BaseException:
                r[RSP] = saved
                raise

        return op

    return build


def popa(size: int) -> Builder:
    def build(s: Site) -> Op:
        if s.mode.bits == 64:
            return s.undefined()
        peek, move, r = s.peeker(size), s.stack_mover(), s.cpu.r
        mask = MASKS[size]

        def op() -> None:
            values = [peek(size * n) for n in range(8)]
            for n in range(8):
                if n != RSP:
                    r[n] = r[n] & ~mask | values[7 - n]
            move(8 * size)

        return op

    return build


_ENTER_LEAVE = {
    Code.ENTERW_IMM16_IMM8: 2, Code.ENTERD_IMM16_IMM8: 4, Code.ENTERQ_IMM16_IMM8: 8,
    Code.LEAVEW: 2, Code.LEAVED: 4, Code.LEAVEQ: 8,
}  # fmt: skip


def enter(s: Site) -> Op:
    """ENTER (SDM Vol. 2A): the frame pointers of the outer levels are copied."""
    r, mask = s.cpu.r, s.mode.stack_mask
    size = _ENTER_LEAVE[s.insn.code]
    frame_bytes, level = s.insn.immediate(0) & 0xFFFF, s.insn.immediate(1) & 31
    store, peek = s.pusher(size), s.peeker(size)
    probe = s.linear(lambda: r[RSP] & mask, SS, size, True, mask)
    check = s.memory.rw_ss[size]
    if s.mode.align:
        check = aligned_only(size, check, True)
    size_mask = MASKS[size]

    def op() -> None:
        old_sp, old_bp = r[RSP], r[RBP]
        try:
            store(old_bp & size_mask)
            frame = r[RSP]
            bp = old_bp
            for _ in range(1, level):
                bp = bp & ~mask | bp - size & mask
                store(peek((bp & mask) - (r[RSP] & mask)))
            if level:
                store(frame & size_mask)
            sp = r[RSP]
            r[RSP] = sp & ~mask | sp - frame_bytes & mask
            check(probe())  # the new top of the stack must be writable, else nothing happens
        except BaseException:
            r[RSP] = old_sp
            raise
        r[RBP] = old_bp & ~size_mask | frame & size_mask if size == 2 else frame & size_mask

    return op


def leave(s: Site) -> Op:
    r, mask = s.cpu.r, s.mode.stack_mask
    size = _ENTER_LEAVE[s.insn.code]
    peek, size_mask = s.peeker(size), MASKS[size]

    def op() -> None:
        bp, sp = r[RBP], r[RSP]
        value = peek((bp & mask) - (sp & mask))
        r[RSP] = sp & ~mask | bp + size & mask
        r[RBP] = bp & ~0xFFFF | value if size == 2 else value & size_mask

    return op


M = Mnemonic

TABLE: Table = {
    M.PUSH: push, M.POP: pop, M.PUSHA: pusha(2), M.PUSHAD: pusha(4), M.POPA: popa(2), M.POPAD: popa(4),
    M.ENTER: enter, M.LEAVE: leave,
}  # fmt: skip
