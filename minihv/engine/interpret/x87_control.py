"""x87 control: initialisation, control and status words, environment, whole state, stack pointer.

Environment layouts: SDM Vol. 1, 8.1.10, figures 8-9 to 8-12.
"""

from collections.abc import Callable

from minihv.engine.interpret.cpu import Cpu
from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.faults import GuestFault
from minihv.engine.interpret.fpu import FpuState
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Table
from minihv.engine.interpret.x87_operands import (
    SUMMARY,
    TOP,
    check_available,
    pop,
    summarise,
    waiting_table,
)
from minihv.x86.registers import CR0_MP, CR0_TS, VECTOR_MF, VECTOR_NM
from minihv.x86.softfloat import C1, NORMAL, ZERO, unpack80

_FCW_FIXED, _FCW_EXISTS = 0x40, 0x1F7F
"""Bit 6 reads as one, bits 7 and 13-15 as zero, whatever FLDCW loads."""


def check_waiting(cpu: Cpu) -> None:
    """#NM, then the pending #MF."""
    check_available(cpu)
    if cpu.fpu.fsw & 0x80:
        raise GuestFault(VECTOR_MF)


def set_control(fpu: FpuState, value: int) -> None:
    """What FLDCW and its kin do with a control word."""
    fpu.fcw = value & _FCW_EXISTS | _FCW_FIXED
    summarise(fpu)


def wait(s: Site) -> Op:
    """WAIT/FWAIT: the one instruction that CR0.MP concerns (SDM Vol. 3A, table 2-2)."""
    cpu = s.cpu

    def op() -> None:
        if cpu.cr0 & (CR0_MP | CR0_TS) == CR0_MP | CR0_TS:
            raise GuestFault(VECTOR_NM)
        if cpu.fpu.fsw & 0x80:
            raise GuestFault(VECTOR_MF)

    return op


def _quick(change: Callable[[FpuState], None]) -> Callable[[Site], Op]:
    """An instruction that does not wait for pending exceptions."""

    def build(s: Site) -> Op:
        cpu = s.cpu

        def op() -> None:
            check_available(cpu)
            change(cpu.fpu)

        return op

    return build


def _clear_exceptions(fpu: FpuState) -> None:
    """FNCLEX: all flags, SF, ES and B."""
    fpu.fsw &= ~(0x7F | SUMMARY)


def fnstcw(s: Site) -> Op:
    cpu, address, st = s.cpu, s.address(2, True), s.st(2)

    def op() -> None:
        check_available(cpu)
        st(address(), cpu.fpu.fcw)

    return op


def fnstsw(s: Site) -> Op:
    """To memory, or to AX."""
    cpu, write = s.cpu, s.writer(0)

    def op() -> None:
        check_available(cpu)
        write(cpu.fpu.fsw)

    return op


def fldcw(s: Site) -> Op:
    """May make flags pending that are set already."""
    cpu, read = s.cpu, s.load_operand(2)

    def op() -> None:
        check_waiting(cpu)
        set_control(cpu.fpu, read())

    return op


# Environment ---------------------------------------------------------------------------------------


def tag_word(fpu: FpuState) -> int:
    """The 16-bit tag word: 00 valid, 01 zero, 10 special, 11 empty; two bits for each physical register."""
    tags = 0
    for n in range(8):
        if fpu.empty >> n & 1:
            tag = 3
        else:
            kind = unpack80(fpu.regs[n]).kind
            tag = 0 if kind == NORMAL else 1 if kind == ZERO else 2
        tags |= tag << 2 * n
    return tags


def empty_from_tags(tags: int) -> int:
    """Only "empty" is taken from a tag word; the rest follows from the contents (SDM Vol. 1, 8.1.7)."""
    return sum(1 << n for n in range(8) if tags >> 2 * n & 3 == 3)


def environment(fpu: FpuState, size: int, protected: bool) -> bytes:
    """The 14- or 28-byte image."""
    words = [fpu.fcw, fpu.fsw, tag_word(fpu)]
    if protected:
        if size == 28:
            pointers = [fpu.ip & 0xFFFFFFFF, fpu.cs | fpu.fop << 16, fpu.dp & 0xFFFFFFFF, fpu.ds | 0xFFFF0000]
        else:
            pointers = [fpu.ip & 0xFFFF, fpu.cs, fpu.dp & 0xFFFF, fpu.ds]
    else:
        ip, dp = fpu.ip + (fpu.cs << 4) & 0xFFFFFFFF, fpu.dp + (fpu.ds << 4) & 0xFFFFFFFF
        if size == 28:
            pointers = [
                0xFFFF0000 | ip & 0xFFFF,
                ip >> 16 << 12 | fpu.fop,
                0xFFFF0000 | dp & 0xFFFF,
                dp >> 16 << 12,
            ]
        else:
            pointers = [ip & 0xFFFF, ip >> 4 & 0xF000 | fpu.fop, dp & 0xFFFF, dp >> 4 & 0xF000]
    if size == 28:
        return b"".join(w.to_bytes(4, "little") for w in [*(w | 0xFFFF0000 for w in words), *pointers])
    return b"".join(w.to_bytes(2, "little") for w in [*words, *pointers])


def load_environment(fpu: FpuState, image: bytes, protected: bool) -> None:
    """Take over a 14- or 28-byte image."""
    step = len(image) // 7
    words = [int.from_bytes(image[n : n + step], "little") for n in range(0, len(image), step)]
    fpu.empty = empty_from_tags(words[2] & 0xFFFF)
    fpu.fsw = words[1] & 0xFFFF
    if protected:
        fpu.ip, fpu.dp = words[3], words[5]
        fpu.cs, fpu.ds = words[4] & 0xFFFF, words[6] & 0xFFFF
        fpu.fop = words[4] >> 16 & 0x7FF
    else:
        fpu.cs = fpu.ds = 0
        fpu.fop = words[4] & 0x7FF
        high = 0xFFFF0000 if step == 4 else 0xF0000
        fpu.ip = words[3] & 0xFFFF | words[4] << 4 & high
        fpu.dp = words[5] & 0xFFFF | words[6] << 4 & high
    set_control(fpu, words[0])


def _protected_layout(s: Site) -> bool:
    return s.mode.protected and not s.mode.vm86


def _alignment(size: int) -> int:
    """Of a floating-point save area (SDM Vol. 3A, table 6-7): 2 in the 16-bit formats, else 4."""
    return 2 if size in (14, 94) else 4


def fnstenv(s: Site) -> Op:
    """Stores the environment, then masks all exceptions."""
    cpu, size = s.cpu, s.size(0)
    address, write, protected = s.address(size, True), s.write_bytes(_alignment(size)), _protected_layout(s)

    def op() -> None:
        check_available(cpu)
        fpu = cpu.fpu
        write(address(), environment(fpu, size, protected))
        set_control(fpu, fpu.fcw | 0x3F)

    return op


def fldenv(s: Site) -> Op:
    """An unmasked flag in the image is pending from then on."""
    cpu, size = s.cpu, s.size(0)
    address, read, protected = s.address(size, False), s.read_bytes(_alignment(size)), _protected_layout(s)

    def op() -> None:
        check_waiting(cpu)
        load_environment(cpu.fpu, read(address(), size), protected)

    return op


def fnsave(s: Site) -> Op:
    """Environment and ST(0)-ST(7), then FNINIT."""
    cpu, size = s.cpu, s.size(0)
    address, write, protected = s.address(size, True), s.write_bytes(_alignment(size)), _protected_layout(s)

    def op() -> None:
        check_available(cpu)
        fpu = cpu.fpu
        top = fpu.fsw >> 11
        registers = b"".join(fpu.regs[top + n & 7].to_bytes(10, "little") for n in range(8))
        write(address(), environment(fpu, size - 80, protected) + registers)
        fpu.init()

    return op


def frstor(s: Site) -> Op:
    """Environment and ST(0)-ST(7) back."""
    cpu, size = s.cpu, s.size(0)
    address, read, protected = s.address(size, False), s.read_bytes(_alignment(size)), _protected_layout(s)

    def op() -> None:
        check_waiting(cpu)
        image = read(address(), size)
        fpu, split = cpu.fpu, size - 80
        load_environment(fpu, image[:split], protected)
        top = fpu.fsw >> 11
        for n in range(8):
            at = split + 10 * n
            fpu.regs[top + n & 7] = int.from_bytes(image[at : at + 10], "little")

    return op


# The stack pointer ---------------------------------------------------------------------------------


def _turn(step: int) -> Callable[[Site], Op]:
    """FINCSTP, FDECSTP: tags and contents stay."""

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu

        def op() -> None:
            fpu.fsw = fpu.fsw & ~(TOP | C1) | fpu.fsw + step & TOP

        return op

    return build


def _free(popping: bool) -> Callable[[Site], Op]:
    """FFREE; FFREEP, which is documented by AMD only, pops too."""

    def build(s: Site) -> Op:
        fpu, i = s.cpu.fpu, s.st_number(0)

        def op() -> None:
            fpu.fsw &= ~C1
            fpu.empty |= 1 << ((fpu.fsw >> 11) + i & 7)
            if popping:
                pop(fpu)

        return op

    return build


def fnop(s: Site) -> Op:
    def op() -> None:
        pass

    return op


def _nothing(fpu: FpuState) -> None:
    """FNENI, FNDISI, FNSETPM: meant something to the 8087 and 80287 only."""


TABLE: Table = {
    Mn.WAIT: wait,
    Mn.FNINIT: _quick(FpuState.init),
    Mn.FNCLEX: _quick(_clear_exceptions),
    Mn.FNENI: _quick(_nothing),
    Mn.FNDISI: _quick(_nothing),
    Mn.FNSETPM: _quick(_nothing),
    Mn.FNSTCW: fnstcw,
    Mn.FNSTSW: fnstsw,
    Mn.FLDCW: fldcw,
    Mn.FNSTENV: fnstenv,
    Mn.FLDENV: fldenv,
    Mn.FNSAVE: fnsave,
    Mn.FRSTOR: frstor,
} | waiting_table(
    {
        Mn.FINCSTP: _turn(0x800),
        Mn.FDECSTP: _turn(-0x800),
        Mn.FFREE: _free(False),
        Mn.FFREEP: _free(True),
        Mn.FNOP: fnop,
    }
)
