"""Descriptor-table registers and descriptor queries (SDM Vol. 2A/2B: LGDT ... VERW), with UMIP."""

from minihv.engine.interpret.cpu import Cpu
from minihv.engine.interpret.decode import Mnemonic
from minihv.engine.interpret.descriptors import Descriptor, is_null, load_ldt, load_task_register, lookup
from minihv.engine.interpret.faults import protection, undefined
from minihv.engine.interpret.flags import MASKS, from_word
from minihv.engine.interpret.site import Op, Read, Site, Write, require_cpl0
from minihv.engine.interpret.table import Builder, Table
from minihv.x86.registers import CR4_UMIP
from minihv.x86.state import DescriptorTable


def _umip(cpu: Cpu) -> None:
    """#GP(0) for user code where UMIP is on (SDM Vol. 3A, 2.5)."""
    if cpu.cpl and cpu.cr4 & CR4_UMIP:
        raise protection()


def _table_register(cpu: Cpu, name: str) -> DescriptorTable:
    return cpu.gdtr if name == "gdtr" else cpu.idtr


def load_table(name: str) -> Builder:
    """LGDT, LIDT: 16-bit limit, then a base of 24 (16-bit operand), 32 or 64 bits."""

    def build(s: Site) -> Op:
        cpu = s.cpu
        width = 8 if s.mode.bits == 64 else 4
        narrow = _narrow(s)
        address, ld2, ld = s.address(2 + width, False), s.ld(2), s.ld(width)
        s.ends_block()

        def op() -> None:
            require_cpl0(cpu)
            at = address()
            limit, base = ld2(at), ld(at + 2)
            if width == 8 and (base >> 47) + 1 & 0x1FFFE:
                raise protection()
            register = _table_register(cpu, name)
            register.limit, register.base = limit, base & 0xFFFFFF if narrow else base

        return op

    return build


def _narrow(s: Site) -> bool:
    """A 16-bit operand size: only 24 bits of base are used."""
    from minihv.engine.interpret.decode import Code

    return s.insn.code in (Code.LGDT_M1632_16, Code.LIDT_M1632_16)


def store_table(name: str) -> Builder:
    """SGDT, SIDT: the base is stored whole whatever the operand size, as current processors do."""

    def build(s: Site) -> Op:
        cpu = s.cpu
        width = 8 if s.mode.bits == 64 else 4
        address, write = s.address(2 + width, True), s.write_bytes()

        def op() -> None:
            _umip(cpu)
            register = _table_register(cpu, name)
            base = register.base & (1 << 8 * width) - 1
            write(address(), register.limit.to_bytes(2, "little") + base.to_bytes(width, "little"))

        return op

    return build


def store_selector(which: str) -> Builder:
    """SLDT, STR: 16 bits to memory, zero-extended to a register."""

    def build(s: Site) -> Op:
        cpu = s.cpu
        register = cpu.ldtr if which == "ldtr" else cpu.tr
        write = _narrow_writer(s)

        def op() -> None:
            _protected_only(cpu)
            _umip(cpu)
            write(register.selector)

        return op

    return build


def _narrow_writer(s: Site) -> Write:
    if s.is_reg(0):
        return s.writer(0)
    address, st = s.address(2, True), s.st(2)
    return lambda value: st(address(), value & 0xFFFF)


def _selector(s: Site, n: int) -> Read:
    """A 16-bit selector operand, whatever the operand size."""
    if s.is_reg(n):
        read = s.reader(n)
        return lambda: read() & 0xFFFF
    address, ld = s.address(2, False), s.ld(2)
    return lambda: ld(address())


def smsw(s: Site) -> Op:
    cpu = s.cpu
    if s.is_reg(0):
        write, mask = s.writer(0), MASKS[s.size(0)]

        def to_register() -> None:
            _umip(cpu)
            write(cpu.cr0 & mask)

        return to_register
    store = _narrow_writer(s)

    def to_memory() -> None:
        _umip(cpu)
        store(cpu.cr0)

    return to_memory


def _protected_only(cpu: Cpu) -> None:
    """These do not exist in real and virtual-8086 mode."""
    if not cpu.protected:
        raise undefined()


def lldt(s: Site) -> Op:
    cpu, read = s.cpu, _selector(s, 0)
    s.ends_block()

    def op() -> None:
        _protected_only(cpu)
        require_cpl0(cpu)
        load_ldt(cpu, read())

    return op


def ltr(s: Site) -> Op:
    cpu, read = s.cpu, _selector(s, 0)
    s.ends_block()

    def op() -> None:
        _protected_only(cpu)
        require_cpl0(cpu)
        load_task_register(cpu, read())

    return op


_LAR_TYPES = {False: (1, 2, 3, 4, 5, 9, 11, 12), True: (2, 9, 11, 12)}
_LSL_TYPES = {False: (1, 2, 3, 9, 11), True: (2, 9, 11)}
"""System types that LAR and LSL accept, in legacy and in long mode (SDM Vol. 2A, tables of LAR and LSL)."""


def _visible(cpu: Cpu, selector: int, found: Descriptor) -> bool:
    """Privilege as for a data access, except for conforming code."""
    return (found.code and found.conforming) or found.dpl >= max(cpu.cpl, selector & 3)


def query(types: dict[bool, tuple[int, ...]], rights: bool) -> Builder:
    """LAR (`rights`) and LSL: ZF tells whether the descriptor is visible and of a valid type."""

    def build(s: Site) -> Op:
        cpu, read, write, mask = s.cpu, _selector(s, 1), s.writer(0), MASKS[s.size(0)]

        def op() -> None:
            _protected_only(cpu)
            selector = read()
            found = None if is_null(selector) else lookup(cpu, selector)
            good = found is not None and _visible(cpu, selector, found)
            if found is not None and good and not found.type & 0x10:
                good = found.type in types[cpu.long_mode]
            word = cpu.arith() & ~0x40
            if found is not None and good:
                write((found.raw >> 32 & 0x00FFFF00 if rights else found.limit) & mask)
                word |= 0x40
            cpu.fl = from_word(word)

        return op

    return build


def verify(write: bool) -> Builder:
    """VERR and VERW."""

    def build(s: Site) -> Op:
        cpu, read = s.cpu, _selector(s, 0)

        def op() -> None:
            _protected_only(cpu)
            selector = read()
            found = None if is_null(selector) else lookup(cpu, selector)
            good = (
                found is not None
                and bool(found.type & 0x10)
                and _visible(cpu, selector, found)
                and (found.writable_data if write else found.readable)
            )
            cpu.fl = from_word(cpu.arith() & ~0x40 | good << 6)

        return op

    return build


def arpl(s: Site) -> Op:
    """ARPL stores only what changes, as AMD's processors do."""
    cpu, read, write, source = s.cpu, s.reader(0), s.writer(0), s.reader(1)

    def op() -> None:
        _protected_only(cpu)
        rpl = source() & 3
        selector = read()
        word = cpu.arith() & ~0x40
        if selector & 3 < rpl:
            write(selector & ~3 | rpl)
            word |= 0x40
        cpu.fl = from_word(word)

    return op


M = Mnemonic

TABLE: Table = {
    M.LGDT: load_table("gdtr"), M.LIDT: load_table("idtr"),
    M.SGDT: store_table("gdtr"), M.SIDT: store_table("idtr"),
    M.SLDT: store_selector("ldtr"), M.STR: store_selector("tr"), M.SMSW: smsw, M.LLDT: lldt, M.LTR: ltr,
    M.LAR: query(_LAR_TYPES, True), M.LSL: query(_LSL_TYPES, False),
    M.VERR: verify(False), M.VERW: verify(True), M.ARPL: arpl,
}  # fmt: skip
