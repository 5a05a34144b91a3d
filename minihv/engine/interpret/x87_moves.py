"""x87 loads, stores, constants, exchanges and conditional moves (SDM Vol. 1, 8.3.3, 8.3.4)."""

from collections.abc import Callable

from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.flags import CONDITIONS as FLAG_TESTS
from minihv.engine.interpret.fpu import FpuState
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table
from minihv.engine.interpret.x87_operands import (
    STORE,
    UNDERFLOW,
    clear_c1,
    get,
    integer_operand,
    is_empty,
    pop,
    push,
    push_checked,
    put,
    report,
    stack_value,
    underflow,
    waiting_table,
)
from minihv.x86 import softfloat_x87 as x87
from minihv.x86.softfloat import F32, F64
from minihv.x86.softfloat_x87 import INDEFINITE

# Loads ---------------------------------------------------------------------------------------------


def fld(s: Site) -> Op:
    """From memory in any floating-point format, or a copy of ST(i)."""
    fpu = s.cpu.fpu
    if s.is_reg(0):
        i = s.st_number(0)

        def copy() -> None:
            if is_empty(fpu, i):
                if not report(fpu, UNDERFLOW):
                    push(fpu, INDEFINITE)
            else:
                push_checked(fpu, get(fpu, i), 0)

        return copy
    size = s.size(0)
    if size == 10:
        address, read_bytes = s.address(10, False), s.read_bytes(8)

        def extended() -> None:
            push_checked(fpu, int.from_bytes(read_bytes(address(), 10), "little"), 0)

        return extended
    fmt, read = (F32 if size == 4 else F64), s.load_operand(size)

    def load() -> None:
        push_checked(fpu, *x87.load(fmt, read(), fpu.fcw))

    return load


def fild(s: Site) -> Op:
    """From a signed integer: exact."""
    fpu, read = s.cpu.fpu, integer_operand(s)

    def op() -> None:
        push_checked(fpu, x87.from_int(read()), 0)

    return op


def fbld(s: Site) -> Op:
    """From 18 packed decimal digits."""
    fpu, address, read_bytes = s.cpu.fpu, s.address(10, False), s.read_bytes(8)

    def op() -> None:
        push_checked(fpu, x87.load_bcd(int.from_bytes(read_bytes(address(), 10), "little")), 0)

    return op


CONSTANTS: dict[int, tuple[int, int, int]] = {
    Mn.FLD1: (0x3FFF_8000000000000000, 0x3FFF_8000000000000000, 0x3FFF_8000000000000000),
    Mn.FLDZ: (0, 0, 0),
    Mn.FLDPI: (0x4000_C90FDAA22168C234, 0x4000_C90FDAA22168C235, 0x4000_C90FDAA22168C235),
    Mn.FLDL2T: (0x4000_D49A784BCD1B8AFE, 0x4000_D49A784BCD1B8AFE, 0x4000_D49A784BCD1B8AFF),
    Mn.FLDL2E: (0x3FFF_B8AA3B295C17F0BB, 0x3FFF_B8AA3B295C17F0BC, 0x3FFF_B8AA3B295C17F0BC),
    Mn.FLDLG2: (0x3FFD_9A209A84FBCFF798, 0x3FFD_9A209A84FBCFF799, 0x3FFD_9A209A84FBCFF799),
    Mn.FLDLN2: (0x3FFE_B17217F7D1CF79AB, 0x3FFE_B17217F7D1CF79AC, 0x3FFE_B17217F7D1CF79AC),
}
"""Rounded down (RC 01, 11), to nearest (00) and up (10) (SDM Vol. 1, 8.3.4)."""


def _constant(values: tuple[int, int, int]) -> Builder:
    down, nearest, up = values
    by_rc = (nearest, down, up, down)

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu

        def op() -> None:
            push_checked(fpu, by_rc[fpu.fcw >> 10 & 3], 0)

        return op

    return build


# Stores --------------------------------------------------------------------------------------------


def _to_register(s: Site, popping: bool, silent: bool = False) -> Op:
    """FST ST(i), FSTP ST(i). `silent` (FSTPNCE): no stack fault, an empty ST(0) is not copied."""
    fpu, i = s.cpu.fpu, s.st_number(0)

    def op() -> None:
        if is_empty(fpu, 0):
            if silent:
                clear_c1(fpu)
            elif underflow(fpu, i):
                return
        else:
            clear_c1(fpu)
            put(fpu, i, get(fpu, 0))
        if popping:
            pop(fpu)

    return op


Convert = Callable[[FpuState], tuple[int, int]]
"""ST(0) in the format of the destination, with flags; only asked where ST(0) is not empty."""


def _to_memory(s: Site, size: int, convert: Convert, indefinite: int, popping: bool) -> Op:
    """Store first, because that may fault; only then the status and the stack change."""
    fpu, address = s.cpu.fpu, s.address(size, True)
    align = 8 if size == 10 else size  # SDM Vol. 3A, table 6-7
    write, probe = s.write_bytes(align), s.probe_write(align)
    st = s.st(size) if size in (2, 4, 8) else None

    def op() -> None:
        bits, flags = (indefinite, UNDERFLOW) if is_empty(fpu, 0) else convert(fpu)
        lin = address()
        if flags & ~fpu.fcw & STORE:
            probe(lin, size)
        elif st is not None:
            st(lin, bits)
        else:
            write(lin, bits.to_bytes(size, "little"))
        if not report(fpu, flags, STORE) and popping:
            pop(fpu)

    return op


def _store_float(popping: bool) -> Builder:
    """FST, FSTP."""

    def build(s: Site) -> Op:
        if s.is_reg(0):
            return _to_register(s, popping)
        size = s.size(0)
        if size == 10:
            return _to_memory(s, 10, lambda fpu: (get(fpu, 0), 0), INDEFINITE, popping)
        fmt = F32 if size == 4 else F64
        return _to_memory(
            s, size, lambda fpu: x87.store(fmt, stack_value(fpu, 0), fpu.fcw), fmt.default_nan, popping
        )

    return build


def _store_integer(popping: bool, truncate: bool = False) -> Builder:
    """FIST, FISTP, FISTTP."""

    def build(s: Site) -> Op:
        size = s.size(0)
        bits = 8 * size

        def convert(fpu: FpuState) -> tuple[int, int]:
            value, flags = x87.store_int(stack_value(fpu, 0), fpu.fcw, bits, truncate)
            return value, flags

        return _to_memory(s, size, convert, 1 << (bits - 1), popping)

    return build


def fbstp(s: Site) -> Op:
    """To 18 packed decimal digits."""
    return _to_memory(
        s, 10, lambda fpu: x87.store_bcd(stack_value(fpu, 0), fpu.fcw), x87.BCD_INDEFINITE, True
    )


# Within the stack ----------------------------------------------------------------------------------


def fxch(s: Site) -> Op:
    """Empty registers are filled with the indefinite first, if that is masked."""
    fpu, i = s.cpu.fpu, s.st_number(1)

    def op() -> None:
        if is_empty(fpu, 0) or is_empty(fpu, i):
            if report(fpu, UNDERFLOW):
                return
            for n in (0, i):
                if is_empty(fpu, n):
                    put(fpu, n, INDEFINITE)
        else:
            clear_c1(fpu)
        first, second = get(fpu, 0), get(fpu, i)
        put(fpu, 0, second)
        put(fpu, i, first)

    return op


def _conditional(condition: int) -> Builder:
    """FCMOVcc; `condition` is Jcc's number."""
    test = FLAG_TESTS[condition]

    def build(s: Site) -> Op:
        cpu, fpu, i = s.cpu, s.cpu.fpu, s.st_number(1)

        def op() -> None:
            if is_empty(fpu, 0) or is_empty(fpu, i):
                underflow(fpu, 0)
                return
            if test(cpu.fl):
                put(fpu, 0, get(fpu, i))

        return op

    return build


TABLE: Table = waiting_table(
    {
        Mn.FLD: fld,
        Mn.FILD: fild,
        Mn.FBLD: fbld,
        Mn.FST: _store_float(False),
        Mn.FSTP: _store_float(True),
        Mn.FSTPNCE: lambda s: _to_register(s, True, silent=True),
        Mn.FIST: _store_integer(False),
        Mn.FISTP: _store_integer(True),
        Mn.FISTTP: _store_integer(True, truncate=True),
        Mn.FBSTP: fbstp,
        Mn.FXCH: fxch,
        Mn.FCMOVB: _conditional(2),
        Mn.FCMOVNB: _conditional(3),
        Mn.FCMOVE: _conditional(4),
        Mn.FCMOVNE: _conditional(5),
        Mn.FCMOVBE: _conditional(6),
        Mn.FCMOVNBE: _conditional(7),
        Mn.FCMOVU: _conditional(10),
        Mn.FCMOVNU: _conditional(11),
    }
    | {mnemonic: _constant(values) for mnemonic, values in CONSTANTS.items()}
)
