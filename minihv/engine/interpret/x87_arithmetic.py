"""x87 arithmetic and comparison with all their operand forms (SDM Vol. 1, 8.3.5, 8.3.6)."""

from collections.abc import Callable

from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.flags import from_word
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table
from minihv.engine.interpret.x87_operands import (
    C0,
    C2,
    C3,
    CONDITIONS,
    UNDERFLOW,
    clear_c1,
    float_operand,
    get,
    integer_operand,
    is_empty,
    pop,
    put,
    report,
    stack_value,
    underflow,
    waiting_table,
)
from minihv.x86 import softfloat_x87 as x87
from minihv.x86.softfloat import C1, DENORMAL, INF, NORMAL, QNAN, SNAN, ZERO, Value, from_integer

Function = Callable[[Value, Value, int], tuple[int, int]]
"""(destination, source, FCW) -> (bits, flags)"""


def _reversed(function: Function) -> Function:
    return lambda x, y, cw: function(y, x, cw)


# Arithmetic ----------------------------------------------------------------------------------------


def _with_memory(s: Site, function: Function, operand: Callable[[], Value]) -> Op:
    """ST(0) = function(ST(0), memory)."""
    fpu = s.cpu.fpu

    def op() -> None:
        y = operand()
        if is_empty(fpu, 0):
            underflow(fpu, 0)
            return
        bits, flags = function(stack_value(fpu, 0), y, fpu.fcw)
        if not report(fpu, flags):
            put(fpu, 0, bits)

    return op


def _arithmetic(function: Function, popping: bool = False) -> Builder:
    """FADD and kin: memory, ST(0) with ST(i), ST(i) with ST(0), and with a pop."""

    def build(s: Site) -> Op:
        if s.is_mem(0):
            return _with_memory(s, function, float_operand(s))
        fpu, d, e = s.cpu.fpu, s.st_number(0), s.st_number(1)

        def op() -> None:
            if is_empty(fpu, d) or is_empty(fpu, e):
                if underflow(fpu, d):
                    return
            else:
                bits, flags = function(stack_value(fpu, d), stack_value(fpu, e), fpu.fcw)
                if report(fpu, flags):
                    return
                put(fpu, d, bits)
            if popping:
                pop(fpu)

        return op

    return build


def _integer(function: Function) -> Builder:
    """FIADD and kin."""

    def build(s: Site) -> Op:
        load = integer_operand(s)
        return _with_memory(s, function, lambda: from_integer(load()))

    return build


def fchs(s: Site) -> Op:
    """Flips the sign of anything, NaNs and unsupported patterns too."""
    return _sign(s, lambda bits: bits ^ x87.SIGN)


def fabs(s: Site) -> Op:
    """Clears the sign of anything."""
    return _sign(s, lambda bits: bits & ~x87.SIGN)


def _sign(s: Site, change: Callable[[int], int]) -> Op:
    fpu = s.cpu.fpu

    def op() -> None:
        if is_empty(fpu, 0):
            underflow(fpu, 0)
            return
        clear_c1(fpu)
        put(fpu, 0, change(get(fpu, 0)))

    return op


# Comparison ----------------------------------------------------------------------------------------

_CODES: dict[int | None, int] = {None: C3 | C2 | C0, -1: C0, 0: C3, 1: 0}
_FLAGS = {None: from_word(0x45), -1: from_word(1), 0: from_word(0x40), 1: from_word(0)}


def _set_codes(s: Site, operand: Callable[[], Value | None], quiet: bool, pops: int) -> Op:
    """Condition codes from comparing ST(0) with `operand` (None: an empty register).

    An unmasked exception keeps the stack from being popped, not the codes from being set.
    """
    fpu = s.cpu.fpu

    def op() -> None:
        y = operand()
        order: int | None = None
        if y is None or is_empty(fpu, 0):
            flags = UNDERFLOW
        else:
            order, flags = x87.compare(stack_value(fpu, 0), y, quiet)
        stopped = report(fpu, flags)
        fpu.fsw = fpu.fsw & ~CONDITIONS | _CODES[order]
        if not stopped:
            for _ in range(pops):
                pop(fpu)

    return op


def _compare(quiet: bool, pops: int) -> Builder:
    """FCOM, FUCOM and their popping forms."""

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu
        if s.insn.op_count and s.is_mem(0):
            return _set_codes(s, float_operand(s), quiet, pops)
        i = s.st_number(1) if s.insn.op_count > 1 else 1
        return _set_codes(s, lambda: None if is_empty(fpu, i) else stack_value(fpu, i), quiet, pops)

    return build


def _compare_integer(pops: int) -> Builder:
    """FICOM, FICOMP."""

    def build(s: Site) -> Op:
        load = integer_operand(s)
        return _set_codes(s, lambda: from_integer(load()), False, pops)

    return build


def ftst(s: Site) -> Op:
    """Against +0."""
    zero = from_integer(0)
    return _set_codes(s, lambda: zero, False, 0)


def _compare_flags(quiet: bool, popping: bool) -> Builder:
    """FCOMI, FUCOMI: the order goes to ZF, PF, CF, even with an unmasked exception (then nothing is popped).

    C1 is cleared (SDM Vol. 2A); AMD's processors do so for a stack fault only.
    """

    def build(s: Site) -> Op:
        cpu, fpu, i = s.cpu, s.cpu.fpu, s.st_number(1)

        def op() -> None:
            order: int | None = None
            if is_empty(fpu, 0) or is_empty(fpu, i):
                flags = UNDERFLOW
            else:
                order, flags = x87.compare(stack_value(fpu, 0), stack_value(fpu, i), quiet)
            kept = fpu.fsw & C1 if cpu.amd and flags != UNDERFLOW else 0
            stopped = report(fpu, flags)
            fpu.fsw |= kept
            cpu.fl = _FLAGS[order]
            if popping and not stopped:
                pop(fpu)

        return op

    return build


_CLASSES = {
    ZERO: C3, NORMAL: C2, DENORMAL: C3 | C2, INF: C2 | C0, QNAN: C0, SNAN: C0,
}  # fmt: skip
"""FXAM (SDM Vol. 2A, table 3-42); unsupported formats have no code set."""


def fxam(s: Site) -> Op:
    """Class of ST(0), sign in C1, empty or not."""
    fpu = s.cpu.fpu

    def op() -> None:
        codes = C3 | C0 if is_empty(fpu, 0) else _CLASSES.get(stack_value(fpu, 0).kind, 0)
        sign = C1 if get(fpu, 0) & x87.SIGN else 0
        fpu.fsw = fpu.fsw & ~CONDITIONS | codes | sign

    return op


_SUBR, _DIVR = _reversed(x87.sub), _reversed(x87.div)

TABLE: Table = waiting_table(
    {
        Mn.FADD: _arithmetic(x87.add),
        Mn.FADDP: _arithmetic(x87.add, True),
        Mn.FIADD: _integer(x87.add),
        Mn.FSUB: _arithmetic(x87.sub),
        Mn.FSUBP: _arithmetic(x87.sub, True),
        Mn.FISUB: _integer(x87.sub),
        Mn.FSUBR: _arithmetic(_SUBR),
        Mn.FSUBRP: _arithmetic(_SUBR, True),
        Mn.FISUBR: _integer(_SUBR),
        Mn.FMUL: _arithmetic(x87.mul),
        Mn.FMULP: _arithmetic(x87.mul, True),
        Mn.FIMUL: _integer(x87.mul),
        Mn.FDIV: _arithmetic(x87.div),
        Mn.FDIVP: _arithmetic(x87.div, True),
        Mn.FIDIV: _integer(x87.div),
        Mn.FDIVR: _arithmetic(_DIVR),
        Mn.FDIVRP: _arithmetic(_DIVR, True),
        Mn.FIDIVR: _integer(_DIVR),
        Mn.FCHS: fchs,
        Mn.FABS: fabs,
        Mn.FCOM: _compare(False, 0),
        Mn.FCOMP: _compare(False, 1),
        Mn.FCOMPP: _compare(False, 2),
        Mn.FUCOM: _compare(True, 0),
        Mn.FUCOMP: _compare(True, 1),
        Mn.FUCOMPP: _compare(True, 2),
        Mn.FICOM: _compare_integer(0),
        Mn.FICOMP: _compare_integer(1),
        Mn.FTST: ftst,
        Mn.FXAM: fxam,
        Mn.FCOMI: _compare_flags(False, False),
        Mn.FCOMIP: _compare_flags(False, True),
        Mn.FUCOMI: _compare_flags(True, False),
        Mn.FUCOMIP: _compare_flags(True, True),
    }
)
