"""What all x87 pages share: availability, the register stack, stack faults, status and pointers.

An x87 exception that is unmasked is only noted (ES, B); the next waiting instruction delivers it as
#MF (SDM Vol. 1, 8.7). That holds with CR0.NE clear too: like a VMX guest, which cannot run otherwise,
this machine has no FERR# wire to IRQ 13.
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import CS, Cpu
from minihv.engine.interpret.decode import Instruction, encode
from minihv.engine.interpret.faults import GuestFault
from minihv.engine.interpret.fpu import FpuState
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import CR0_EM, CR0_TS, VECTOR_MF, VECTOR_NM
from minihv.x86.softfloat import C1, F32, F64, IE, Value, unpack80
from minihv.x86.softfloat_x87 import INDEFINITE, widen

TOP = 7 << 11
C0, C2, C3 = 0x100, 0x400, 0x4000
CONDITIONS = C0 | C1 | C2 | C3
SF = 0x40
"""Stack fault, set together with IE."""
SUMMARY = 0x8080
"""ES and B, which mirrors it (SDM Vol. 1, 8.1.3.3)."""
PRE = 7
"""IE, DE, ZE: unmasked, the operation has no result."""
STORE = 0x1F
"""For a memory destination OE and UE too (SDM Vol. 1, 8.5.4, 8.5.5)."""
UNDERFLOW, OVERFLOW = IE | SF, IE | SF | C1
"""Stack faults: C1 tells the direction (SDM Vol. 1, 8.5.1.1)."""


def check_available(cpu: Cpu) -> None:
    """#NM, the only check of the instructions that do not wait (SDM Vol. 3A, table 2-2)."""
    if cpu.cr0 & (CR0_EM | CR0_TS):
        raise GuestFault(VECTOR_NM)


def waiting(s: Site, op: Op) -> Op:
    """`op` behind #NM and the pending #MF; afterwards the instruction and operand pointers are set.

    FOP: Intel's processors set it for unmasked exceptions only (SDM Vol. 1, 8.1.9.1), AMD's always.
    """
    cpu, fpu, ip, insn, bits = s.cpu, s.cpu.fpu, s.ip, s.insn, s.mode.bits
    cs = cpu.seg[CS]
    effective = s.effective() if s.insn.op_count and s.is_mem(0) else None
    segment = cpu.seg[s.segment()] if effective is not None else None
    opcode = last_opcode(insn, bits, ip) if cpu.amd else None

    def guarded() -> None:
        if cpu.cr0 & (CR0_EM | CR0_TS):
            raise GuestFault(VECTOR_NM)
        if fpu.fsw & 0x80:
            raise GuestFault(VECTOR_MF)
        op()
        fpu.ip, fpu.cs = ip, cs.selector
        if effective is not None and segment is not None:
            fpu.dp, fpu.ds = effective(), segment.selector
        if opcode is not None:
            fpu.fop = opcode
        elif fpu.fsw & 0x80:
            fpu.fop = last_opcode(insn, bits, ip)

    return guarded


def last_opcode(insn: Instruction, bits: int, ip: int) -> int:
    """FOP: the low three bits of the first opcode byte and the ModRM byte (SDM Vol. 1, 8.1.9)."""
    code = encode(insn, bits, ip)
    at = next(n for n, byte in enumerate(code) if byte & 0xF8 == 0xD8)
    return (code[at] & 7) << 8 | code[at + 1]


def waiting_table(table: Table) -> Table:
    """Every builder of `table`, waiting."""

    def wrap(builder: Builder) -> Builder:
        return lambda s: waiting(s, builder(s))

    return {mnemonic: wrap(builder) for mnemonic, builder in table.items()}


# Status --------------------------------------------------------------------------------------------


def report(fpu: FpuState, flags: int, fatal: int = PRE) -> bool:
    """Enter exception flags, SF and C1 in the status word; True: an unmasked `fatal` one forbids a result."""
    unmasked = flags & ~fpu.fcw & 0x3F
    stopped = bool(unmasked & fatal)
    if stopped and not flags & SF:
        flags &= ~C1
    fpu.fsw = fpu.fsw & ~C1 | flags & (0x3F | SF | C1)
    if unmasked:
        fpu.fsw |= SUMMARY
    return stopped


def clear_c1(fpu: FpuState) -> None:
    fpu.fsw &= ~C1


def summarise(fpu: FpuState) -> None:
    """ES and B after FCW or FSW were loaded."""
    if fpu.fsw & ~fpu.fcw & 0x3F:
        fpu.fsw |= SUMMARY
    else:
        fpu.fsw &= ~SUMMARY


# The stack -----------------------------------------------------------------------------------------


def physical(fpu: FpuState, i: int) -> int:
    """Which physical register ST(i) is."""
    return (fpu.fsw >> 11) + i & 7


def is_empty(fpu: FpuState, i: int) -> bool:
    """Whether ST(i) is tagged empty."""
    return bool(fpu.empty >> ((fpu.fsw >> 11) + i & 7) & 1)


def get(fpu: FpuState, i: int) -> int:
    """Contents of ST(i)."""
    return fpu.regs[(fpu.fsw >> 11) + i & 7]


def put(fpu: FpuState, i: int, bits: int) -> None:
    """Set ST(i), which is no longer empty then."""
    n = (fpu.fsw >> 11) + i & 7
    fpu.regs[n] = bits
    fpu.empty &= ~(1 << n)


def pop(fpu: FpuState) -> None:
    """ST(0) becomes empty, TOP goes up."""
    fsw = fpu.fsw
    fpu.empty |= 1 << (fsw >> 11 & 7)
    fpu.fsw = fsw & ~TOP | fsw + 0x800 & TOP


def push(fpu: FpuState, bits: int) -> None:
    """TOP goes down to a new ST(0)."""
    fsw = fpu.fsw
    fpu.fsw = fsw & ~TOP | fsw - 0x800 & TOP
    put(fpu, 0, bits)


def push_checked(fpu: FpuState, bits: int, flags: int) -> None:
    """What a load does: `bits` with `flags`, or the stack overflow (SDM Vol. 1, 8.5.1.1).

    A denormal is pushed even where DE is unmasked, as processors do it: only IE prevents it.
    """
    if not is_empty(fpu, 7):
        bits, flags = INDEFINITE, OVERFLOW
    if not report(fpu, flags, IE):
        push(fpu, bits)


def underflow(fpu: FpuState, destination: int | None) -> bool:
    """A stack underflow; masked, the indefinite goes to ST(destination). True: unmasked, nothing happened."""
    if report(fpu, UNDERFLOW):
        return True
    if destination is not None:
        put(fpu, destination, INDEFINITE)
    return False


def stack_value(fpu: FpuState, i: int) -> Value:
    """ST(i), unpacked."""
    return unpack80(fpu.regs[(fpu.fsw >> 11) + i & 7])


# Memory operands -----------------------------------------------------------------------------------


def float_operand(s: Site) -> Callable[[], Value]:
    """Closure that loads the m32fp or m64fp operand 0."""
    size = s.size(0)
    fmt, read = (F32 if size == 4 else F64), s.load_operand(size)
    return lambda: widen(fmt, read())


def integer_operand(s: Site) -> Callable[[], int]:
    """Closure that loads the m16int, m32int or m64int operand 0 as a signed number."""
    size = s.size(0)
    read, top = s.load_operand(size), 8 * size - 1

    def load() -> int:
        value = read()
        return value - (value >> top << top + 1)

    return load
