"""x87 functions of ST(0) and ST(1): roots, remainders, scaling, trigonometry, logarithms."""

from collections.abc import Callable

from minihv.engine.interpret.decode import Mnemonic as Mn
from minihv.engine.interpret.fpu import FpuState
from minihv.engine.interpret.site import Op, Site
from minihv.engine.interpret.table import Builder, Table
from minihv.engine.interpret.x87_operands import (
    C0,
    C2,
    C3,
    OVERFLOW,
    UNDERFLOW,
    get,
    is_empty,
    pop,
    push,
    put,
    report,
    stack_value,
    underflow,
    waiting_table,
)
from minihv.x86 import softfloat_math as functions
from minihv.x86 import softfloat_x87 as x87
from minihv.x86.softfloat import C1, IE, QNAN, Value
from minihv.x86.softfloat_x87 import INDEFINITE

_ONE = 0x3FFF << 64 | 1 << 63

One = Callable[[Value, int, int], tuple[int, int]]
"""(ST(0), its bits, FCW) -> (bits, flags)"""
Two = Callable[[Value, Value, int], tuple[int, int]]
"""(ST(1), ST(0), FCW) -> (bits, flags)"""


def _one(function: One) -> Builder:
    """ST(0) = function(ST(0))."""

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu

        def op() -> None:
            if is_empty(fpu, 0):
                underflow(fpu, 0)
                return
            bits, flags = function(stack_value(fpu, 0), get(fpu, 0), fpu.fcw)
            if not report(fpu, flags):
                put(fpu, 0, bits)

        return op

    return build


def _two_pop(function: Two) -> Builder:
    """ST(1) = function(ST(1), ST(0)), then pop: FPATAN, FYL2X, FYL2XP1."""

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu

        def op() -> None:
            if is_empty(fpu, 0) or is_empty(fpu, 1):
                if underflow(fpu, 1):
                    return
            else:
                bits, flags = function(stack_value(fpu, 1), stack_value(fpu, 0), fpu.fcw)
                if report(fpu, flags):
                    return
                put(fpu, 1, bits)
            pop(fpu)

        return op

    return build


def fscale(s: Site) -> Op:
    """ST(0) times two to the integer part of ST(1)."""
    fpu = s.cpu.fpu

    def op() -> None:
        if is_empty(fpu, 0) or is_empty(fpu, 1):
            underflow(fpu, 0)
            return
        bits, flags = x87.scale(stack_value(fpu, 0), stack_value(fpu, 1), fpu.fcw)
        if not report(fpu, flags):
            put(fpu, 0, bits)

    return op


def _remainder(nearest: bool) -> Builder:
    """FPREM, FPREM1: C2 says "not yet", C0 C3 C1 the low bits of the quotient, where there is one."""

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu

        def op() -> None:
            fpu.fsw &= ~C2
            if is_empty(fpu, 0) or is_empty(fpu, 1):
                underflow(fpu, 0)
                return
            x, y = stack_value(fpu, 0), stack_value(fpu, 1)
            bits, flags = x87.remainder(x, get(fpu, 0), y, fpu.fcw, nearest)
            if not report(fpu, flags):
                if x.kind < QNAN and y.kind < QNAN and not flags & IE:
                    fpu.fsw = fpu.fsw & ~(C0 | C3) | flags & (C0 | C2 | C3)
                put(fpu, 0, bits)

        return op

    return build


# Trigonometry --------------------------------------------------------------------------------------


def _too_large(fpu: FpuState) -> bool:
    """Sets C2 if ST(0) is beyond 2**63: the operand stays then. The caller cleared C2."""
    if functions.out_of_range(stack_value(fpu, 0)):
        fpu.fsw = fpu.fsw & ~C1 | C2
        return True
    return False


def _angle(function: Callable[[Value, int], tuple[int, int]]) -> Builder:
    """FSIN, FCOS."""

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu

        def op() -> None:
            fpu.fsw &= ~C2
            if is_empty(fpu, 0):
                underflow(fpu, 0)
            elif not _too_large(fpu):
                bits, flags = function(stack_value(fpu, 0), fpu.fcw)
                if not report(fpu, flags):
                    put(fpu, 0, bits)

        return op

    return build


def _split(pair: Callable[[Value, int], tuple[int, int, int]], ranged: bool) -> Builder:
    """Instructions that replace ST(0) and push a second result: FSINCOS, FPTAN, FXTRACT."""

    def build(s: Site) -> Op:
        fpu = s.cpu.fpu

        def op() -> None:
            if ranged:
                fpu.fsw &= ~C2
            if is_empty(fpu, 0) or not is_empty(fpu, 7):
                if not report(fpu, UNDERFLOW if is_empty(fpu, 0) else OVERFLOW):
                    put(fpu, 0, INDEFINITE)
                    push(fpu, INDEFINITE)
                return
            if ranged and _too_large(fpu):
                return
            replaced, pushed, flags = pair(stack_value(fpu, 0), fpu.fcw)
            if not report(fpu, flags):
                put(fpu, 0, replaced)
                push(fpu, pushed)

        return op

    return build


def _sincos(x: Value, cw: int) -> tuple[int, int, int]:
    sine, flags = functions.sin(x, cw)
    cosine, more = functions.cos(x, cw)
    return sine, cosine, flags & ~C1 | more


def _tangent(x: Value, cw: int) -> tuple[int, int, int]:
    bits, flags = functions.tan(x, cw)
    # An invalid operand or a NaN goes to both places (SDM Vol. 2A, FPTAN).
    both = x.kind >= QNAN or bits == INDEFINITE
    return bits, bits if both else _ONE, flags


TABLE: Table = waiting_table(
    {
        Mn.FSQRT: _one(lambda x, bits, cw: x87.sqrt(x, cw)),
        Mn.FRNDINT: _one(x87.round_to_integral),
        Mn.F2XM1: _one(functions.exp2m1),
        Mn.FSCALE: fscale,
        Mn.FPREM: _remainder(False),
        Mn.FPREM1: _remainder(True),
        Mn.FSIN: _angle(functions.sin),
        Mn.FCOS: _angle(functions.cos),
        Mn.FSINCOS: _split(_sincos, True),
        Mn.FPTAN: _split(_tangent, True),
        Mn.FXTRACT: _split(x87.extract, False),
        Mn.FPATAN: _two_pop(functions.atan2),
        Mn.FYL2X: _two_pop(functions.ylog2x),
        Mn.FYL2XP1: _two_pop(functions.ylog2xp1),
    }
)
