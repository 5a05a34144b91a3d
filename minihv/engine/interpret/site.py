"""One decoded instruction in its mode: what a family page's builder gets, with the operand helpers."""

from collections.abc import Callable

from minihv.engine.interpret.cpu import CS, FS, M16, M32, M64, SS, Cpu, Mode
from minihv.engine.interpret.decode import Instruction, OpKind, Register, general_register, memory_bytes
from minihv.engine.interpret.faults import GuestFault, protection, stack_fault, undefined
from minihv.engine.interpret.flags import MASKS
from minihv.engine.interpret.space import Load, Store, aligned_only, aligned_only_store, misaligned

Op = Callable[[], None]
Read = Callable[[], int]
Write = Callable[[int], None]

_NONE, _RIP, _EIP, _ES_REG = Register.NONE, Register.RIP, Register.EIP, Register.ES
_REGISTER, _MEMORY = OpKind.REGISTER, OpKind.MEMORY
_XMM0, _MM0, _ST0 = Register.XMM0, Register.MM0, Register.ST0
_FIRST_IMMEDIATE, _LAST_IMMEDIATE = OpKind.IMMEDIATE8, OpKind.IMMEDIATE32TO64
_WIDTHS = {2: M16, 4: M32, 8: M64}
_SHIFT = {1: 0, 2: 1, 4: 2, 8: 3}


class Site:
    """An instruction at `ip` (offset in CS) in `mode`, for `cpu`."""

    __slots__ = ("cpu", "ends", "insn", "ip", "memory", "mode", "next_ip")

    def __init__(self, cpu: Cpu, insn: Instruction, mode: Mode, ip: int) -> None:
        self.cpu = cpu
        self.insn = insn
        self.mode = mode
        self.ip = ip
        mask = M64 if mode.bits == 64 else M32
        self.next_ip = ip + insn.len & mask
        self.memory = cpu.user if mode.user else cpu.supervisor
        self.ends = False

    def ends_block(self) -> None:
        """This op may change RIP, the mode, translation or what the run loop must look at."""
        self.ends = True

    def undefined(self) -> Op:
        """The op of an instruction that does not exist here: #UD."""

        def op() -> None:
            raise undefined()

        return op

    def fault(self, vector: int, error: int | None = None) -> Op:
        """An op that always raises this exception."""

        def op() -> None:
            raise GuestFault(vector, error)

        return op

    # --- operands -----------------------------------------------------------------------------------

    def is_reg(self, n: int) -> bool:
        return self.insn.op_kind(n) == _REGISTER

    def is_mem(self, n: int) -> bool:
        return self.insn.op_kind(n) == _MEMORY

    def is_imm(self, n: int) -> bool:
        return _FIRST_IMMEDIATE <= self.insn.op_kind(n) <= _LAST_IMMEDIATE

    def size(self, n: int) -> int:
        """Bytes of operand `n`; an immediate has the size of operand 0."""
        kind = self.insn.op_kind(n)
        if kind == _REGISTER:
            return general_register[self.insn.op_register(n)][1]
        if kind == _MEMORY:
            return memory_bytes(self.insn.memory_size)
        return self.size(0) if n else 8

    @property
    def operand_size(self) -> int:
        """Bytes of operand 0."""
        return self.size(0)

    def imm(self, n: int, size: int | None = None) -> int:
        """Immediate `n`, sign-extended as the encoding says and cut to `size` bytes (operand 0's)."""
        return self.insn.immediate(n) & MASKS[size or self.size(0)]

    def gpr(self, n: int) -> int:
        """Number of general register `n`; AH, CH, DH, BH are 16..19."""
        index, _, high = general_register[self.insn.op_register(n)]
        return index + 16 if high else index

    def xmm(self, n: int) -> int:
        return self.insn.op_register(n) - _XMM0

    def mmx(self, n: int) -> int:
        """Number of an MMX operand."""
        return self.insn.op_register(n) - _MM0

    def st_number(self, n: int) -> int:
        """i of an ST(i) operand."""
        return self.insn.op_register(n) - _ST0

    def segment_operand(self, n: int) -> int:
        """Number of a segment-register operand."""
        return self.insn.op_register(n) - _ES_REG

    # --- reading and writing ------------------------------------------------------------------------

    def reader(self, n: int) -> Read:
        """Closure that gives the value of a register, memory or immediate operand, zero-extended."""
        kind = self.insn.op_kind(n)
        if kind == _REGISTER:
            return read_register(self.cpu.r, *general_register[self.insn.op_register(n)])
        if kind == _MEMORY:
            return self.load_operand(self.size(n))
        value = self.imm(n)
        return lambda: value

    def writer(self, n: int) -> Write:
        """Closure that sets a register or memory operand; values are cut to its size already."""
        if self.insn.op_kind(n) == _REGISTER:
            return write_register(self.cpu.r, *general_register[self.insn.op_register(n)])
        size = self.size(n)
        address, st = self.address(size, True), self.st(size)
        return lambda value: st(address(), value)

    def modify(self, n: int) -> tuple[Read, Write]:
        """(read, write) of an operand that is read, then written. After `read`, `write` cannot fault."""
        if self.insn.op_kind(n) == _REGISTER:
            return self.reader(n), self.writer(n)
        size = self.size(n)
        address, rw, st = self.address(size, True), self.rw(size), self.st(size)
        at = 0

        def read() -> int:
            nonlocal at
            at = address()
            return rw(at)

        def write(value: int) -> None:
            st(at, value)

        return read, write

    def load_operand(self, size: int) -> Read:
        """Closure that loads `size` bytes of the memory operand. Sizes 1, 2, 4, 8, 16."""
        insn, mode = self.insn, self.mode
        plain = size in _SHIFT and not mode.align and insn.memory_index == _NONE
        if (
            plain
            and insn.memory_base in general_register
            and self.unchecked
            and self.segment() not in (FS, FS + 1)
        ):
            # The commonest form, [base + disp] in a flat segment: address, TLB and load in one closure.
            r, base = self.cpu.r, general_register[insn.memory_base][0]
            disp = self.displacement()
            memory = self.memory
            slow = memory.load_stack if self.stack_operand() else memory.load
            views, low, shift = memory.reads[size], size - 1, _SHIFT[size]

            def load() -> int:
                lin = r[base] + disp
                if not lin & low:
                    page = views.get(lin >> 12)
                    if page is not None:
                        return page[(lin & 4095) >> shift]
                return slow(lin, size)

            return load
        address, ld = self.address(size, False), self.ld(size)
        return lambda: ld(address())

    # --- memory -------------------------------------------------------------------------------------

    def ld(self, size: int) -> Load:
        """`ld(lin) -> int` for the memory operand. Sizes 1, 2, 4, 8, 16."""
        stack = self.stack_operand()
        load = (self.memory.ld_ss if stack else self.memory.ld)[size]
        return aligned_only(size, load, stack) if self.mode.align else load

    def st(self, size: int) -> Store:
        """`st(lin, value)` for the memory operand."""
        stack = self.stack_operand()
        store = (self.memory.st_ss if stack else self.memory.st)[size]
        return aligned_only_store(size, store, stack) if self.mode.align else store

    def rw(self, size: int) -> Load:
        """Like `ld`, but with the right to write checked first."""
        stack = self.stack_operand()
        load = (self.memory.rw_ss if stack else self.memory.rw)[size]
        return aligned_only(size, load, stack) if self.mode.align else load

    def read_bytes(self, alignment: int = 1) -> Callable[[int, int], bytes]:
        """`read(lin, n)`; `alignment` of the operand is looked at where alignment checks are on."""
        read, check = self.memory.read_bytes, self._alignment(alignment)
        if check is None:
            return read
        return lambda lin, size: read(check(lin), size)

    def write_bytes(self, alignment: int = 1) -> Callable[[int, bytes | bytearray | memoryview], None]:
        """`write(lin, data)`."""
        write, check = self.memory.write_bytes, self._alignment(alignment)
        if check is None:
            return write
        return lambda lin, data: write(check(lin), data)

    def probe_write(self, alignment: int = 1) -> Callable[[int, int], None]:
        """`probe(lin, n)`: raises what a write would raise."""
        probe, check = self.memory.probe_write, self._alignment(alignment)
        if check is None:
            return probe
        return lambda lin, size: probe(check(lin), size)

    def _alignment(self, alignment: int) -> Callable[[int], int] | None:
        low = alignment - 1 if self.mode.align else 0
        stack = self.mode.bits == 64 and self.stack_operand()
        if not low and not stack:
            return None

        def check(lin: int) -> int:
            if stack and (lin >> 47) + 1 & 0x1FFFE:
                raise stack_fault()
            if lin & low:
                raise misaligned(lin)
            return lin

        return check

    # --- addresses ----------------------------------------------------------------------------------

    def segment(self) -> int:
        """Segment register of the memory operand. In 64-bit mode all but FS and GS count as one."""
        return self.insn.memory_segment - _ES_REG

    def stack_operand(self) -> bool:
        """Whether a bad address of the memory operand is #SS instead of #GP."""
        if self.mode.bits != 64:
            return self.segment() == SS
        if self.segment() >= FS:
            return False
        base = general_register.get(self.insn.memory_base)
        return base is not None and base[0] in (4, 5)

    def address_size(self) -> int:
        """Bytes of an address of the memory operand."""
        insn = self.insn
        for register in (insn.memory_base, insn.memory_index):
            known = general_register.get(register)
            if known is not None:
                return known[1]
            if register in (_RIP, _EIP):
                return 8 if register == _RIP else 4
        return insn.memory_displ_size or self.mode.bits // 8

    def displacement(self) -> int:
        """Displacement as a signed number."""
        size = self.address_size()
        value = self.insn.memory_displacement & _WIDTHS[size]
        return value - (1 << 8 * size) if value >> 8 * size - 1 else value

    @property
    def unchecked(self) -> bool:
        """The memory operand's offset is its linear address: no base, no limit, nothing to cut."""
        mode = self.mode
        if mode.bits == 64:
            return self.address_size() == 8
        if mode.bits != 32 or mode.long or self.address_size() != 4:
            return False
        return bool(mode.flat >> self.segment() & 1)

    def offset(self) -> Read:
        """Closure for the memory operand's offset, *not* cut to the address size."""
        insn, r = self.insn, self.cpu.r
        disp = self.displacement()
        base = general_register.get(insn.memory_base)
        index = general_register.get(insn.memory_index)
        if base is None and index is None:
            if insn.memory_base in (_RIP, _EIP):
                disp = insn.memory_displacement
            return lambda: disp
        scale = insn.memory_index_scale.bit_length() - 1
        if index is None:
            assert base is not None
            b = base[0]
            return (lambda: r[b] + disp) if disp else (lambda: r[b])
        i = index[0]
        if base is None:
            return lambda: (r[i] << scale) + disp
        b = base[0]
        if disp:
            return lambda: r[b] + (r[i] << scale) + disp
        return lambda: r[b] + (r[i] << scale)

    def effective(self) -> Read:
        """Closure for the memory operand's offset, cut to the address size."""
        offset, mask = self.offset(), _WIDTHS[self.address_size()]
        return lambda: offset() & mask

    def address(self, size: int, write: bool) -> Read:
        """Closure for the linear address of the memory operand, `size` bytes checked against its segment."""
        return self.linear(self.offset(), self.segment(), size, write, _WIDTHS[self.address_size()])

    def linear(self, offset: Read, segment: int, size: int, write: bool, mask: int) -> Read:
        """Closure: `offset` cut by `mask`, checked against `segment`, as a linear address."""
        mode = self.mode
        seg = self.cpu.seg[segment]
        if mode.bits == 64:
            if segment >= FS:
                if mask == M64:
                    return lambda: seg.base + offset()
                return lambda: seg.base + (offset() & mask)
            if mask == M64:
                return offset
            return lambda: offset() & mask
        if mode.flat >> segment & 1 and not (mode.bits == 16 or mode.long) and mask == M32:
            return offset
        extra = size - 1

        if write:

            def checked() -> int:
                at = offset() & mask
                if at < seg.lo or at + extra > seg.write_hi:
                    raise segment_fault(segment)
                return seg.base + at & M32
        else:

            def checked() -> int:
                at = offset() & mask
                if at < seg.lo or at + extra > seg.read_hi:
                    raise segment_fault(segment)
                return seg.base + at & M32

        return checked

    # --- the stack ----------------------------------------------------------------------------------

    def pusher(self, size: int) -> Write:
        """`push(value)` of `size` bytes: stores, then moves the stack pointer."""
        r, mask, st = self.cpu.r, self.mode.stack_mask, self.memory.st_ss[size]
        if self.mode.align:
            st = aligned_only_store(size, st, True)
        if self.mode.bits == 64 or (mask == M32 and self.mode.flat >> SS & 1):

            def push(value: int) -> None:
                sp = r[4] - size & mask
                st(sp, value)
                r[4] = sp

            return push
        seg, extra = self.cpu.seg[SS], size - 1

        def push_checked(value: int) -> None:
            old = r[4]
            sp = old - size & mask
            if sp < seg.lo or sp + extra > seg.write_hi:
                raise stack_fault()
            st(seg.base + sp & M32, value)
            r[4] = old & ~mask | sp

        return push_checked

    def peeker(self, size: int) -> Callable[[int], int]:
        """`peek(delta)`: `size` bytes at stack pointer + delta; the stack pointer stays."""
        r, mask, ld = self.cpu.r, self.mode.stack_mask, self.memory.ld_ss[size]
        if self.mode.align:
            ld = aligned_only(size, ld, True)
        if self.mode.bits == 64 or (mask == M32 and self.mode.flat >> SS & 1):
            return lambda delta: ld(r[4] + delta & mask)
        seg, extra = self.cpu.seg[SS], size - 1

        def peek(delta: int) -> int:
            sp = r[4] + delta & mask
            if sp < seg.lo or sp + extra > seg.read_hi:
                raise stack_fault()
            return ld(seg.base + sp & M32)

        return peek

    def stack_mover(self) -> Write:
        """`move(delta)`: add to the stack pointer."""
        r, mask = self.cpu.r, self.mode.stack_mask
        if mask == M16:

            def move16(delta: int) -> None:
                r[4] = r[4] & ~M16 | r[4] + delta & M16

            return move16

        def move(delta: int) -> None:
            r[4] = r[4] + delta & mask

        return move


def segment_fault(segment: int) -> GuestFault:
    """The fault of an access that its segment does not allow."""
    return stack_fault() if segment == SS else protection()


def read_register(r: list[int], index: int, size: int, high: bool) -> Read:
    """Closure that reads (part of) a general register."""
    if size == 8:
        return lambda: r[index]
    if high:
        return lambda: r[index] >> 8 & 0xFF
    mask = MASKS[size]
    return lambda: r[index] & mask


def write_register(r: list[int], index: int, size: int, high: bool) -> Write:
    """Closure that writes (part of) a general register; 32-bit writes clear the upper half."""
    if size >= 4:

        def write(value: int) -> None:
            r[index] = value
    elif size == 2:

        def write(value: int) -> None:
            r[index] = r[index] & ~0xFFFF | value
    elif high:

        def write(value: int) -> None:
            r[index] = r[index] & ~0xFF00 | value << 8
    else:

        def write(value: int) -> None:
            r[index] = r[index] & ~0xFF | value

    return write


def require_cpl0(cpu: Cpu) -> None:
    """#GP(0) unless CPL is 0."""
    if cpu.cpl:
        raise protection()


__all__ = ["CS", "Op", "Read", "Site", "Write", "require_cpl0", "segment_fault"]
